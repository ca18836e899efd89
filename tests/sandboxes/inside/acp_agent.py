"""An agent that speaks the Agent Client Protocol and plays what it is told: the prompt's first text is a list of acts,
and ACP_PLAY in its environment, an object, says how it is before. Standard library only: it runs in sandboxes.

Acts: ["chunks", count], ["ask", method, params], ["print", text], ["huge", characters], ["limits"] says its own, ["die", code],
["stop", reason], ["error", error], ["hang", …] until it is canceled (then it asks the requests that follow, and with "error"
fails), ["deaf"] also then, ["late"] answers, and says more when its input is closed. At the end of the list it stops with
end_turn. What a request of its own was answered it says as a chunk.
"""

import json
import os
import resource
import sys
import time

PLAY = json.loads(os.environ.get("ACP_PLAY", "{}"))


def say(stream, line):
    stream.write(line + "\n")
    stream.flush()


class Agent:
    def __init__(self):
        self.number = 0

    def read(self):
        line = sys.stdin.readline()
        if not line:
            if PLAY.get("stays"):
                time.sleep(1000)
            sys.exit(0)
        return json.loads(line)

    def write(self, message):
        say(sys.stdout, json.dumps({"jsonrpc": "2.0", **message}))

    def update(self, session, kind, **fields):
        self.write({"method": "session/update", "params": {"sessionId": session, "update": {"sessionUpdate": kind, **fields}}})

    def chunk(self, session, text):
        self.update(session, "agent_message_chunk", content={"type": "text", "text": text})

    def ask(self, method, params):
        self.number += 1
        number = f"own-{self.number}"
        self.write({"id": number, "method": method, "params": params})
        while True:
            message = self.read()
            if message.get("id") == number:
                return message

    def play(self, session, number, acts):
        for name, *words in acts:
            if name == "chunks":
                for each in range(words[0]):
                    self.chunk(session, f"chunk {each}")
            elif name == "ask":
                answer = self.ask(words[0], {"sessionId": session, **words[1]})
                self.chunk(session, json.dumps(answer.get("result", answer.get("error")), sort_keys=True))
            elif name == "print":
                say(sys.stdout, words[0])
            elif name == "huge":
                block = {"type": "image", "mimeType": "image/png", "data": "x" * words[0]}
                self.update(session, "agent_message_chunk", content=block)
            elif name == "limits":
                kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)
                self.chunk(session, json.dumps([resource.getrlimit(kind)[0] for kind in kinds]))
            elif name == "die":
                say(sys.stderr, "I die.")
                os._exit(words[0])
            elif name == "stop":
                return {"result": {"stopReason": words[0]}}
            elif name == "error":
                return {"error": words[0]}
            elif name == "hang":
                self.chunk(session, "hanging")
                while self.read().get("method") != "session/cancel":
                    pass
                for request in words:
                    if isinstance(request, dict):
                        self.write(request)
                        self.read()
                self.chunk(session, "canceled")
                return {"error": {"code": -1, "message": "Aborted"}} if "error" in words else {"result": {"stopReason": "cancelled"}}
            elif name == "deaf":
                self.chunk(session, "hanging")
                time.sleep(1000)
            elif name == "late":
                self.write({"id": number, "result": {"stopReason": "end_turn"}})
                sys.stdin.read()
                self.chunk(session, "late")
                time.sleep(1000)
        return {"result": {"stopReason": "end_turn"}}

    def answer(self, method, number, params):
        if method == PLAY.get("hangs_at"):
            time.sleep(1000)
        refusals = PLAY.get("refuses", {})
        if method in refusals:
            return {"error": refusals[method]}
        if method == "initialize":
            return {"result": {"protocolVersion": PLAY.get("version", 1), "agentCapabilities": PLAY.get("able", {})}}
        if method == "session/new":
            return {"result": {"sessionId": "new-1", **PLAY.get("session", {})}}
        if method == "session/load":
            for each in range(PLAY.get("replays", 3)):
                self.chunk(params["sessionId"], f"past {each} " + "x" * 1000)
            if PLAY.get("dies_on_load"):
                os._exit(4)
            return {"result": None}
        if method == "session/prompt":
            return self.play(params["sessionId"], number, json.loads(params["prompt"][0]["text"]))
        return {"result": {}}

    def serve(self):
        while True:
            message = self.read()
            if "id" in message and "method" in message:
                self.write({"id": message["id"], **self.answer(message["method"], message["id"], message["params"])})


Agent().serve()
