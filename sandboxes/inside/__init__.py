"""What runs inside every sandbox: standard library only, Python 3.8 or newer, shipped as one zipapp.

The supervisor is started in one of two ways:

    python3 -I -S supervisor.pyz --journal-fd N --control-fd M       (PID 1 of a local sandbox; inherited descriptors)
    python3 -I -S supervisor.pyz --state DIR                          (a process in a sandbox of somebody else's)

With --state, DIR holds journal.jsonl, control.sock and the lock files `turn-<generation>-<number>.lock` (O_EXCL).
With descriptors the journal itself, held by an exclusive flock for the supervisor's whole life, is the lock: the
supervisor reads it at its start to know the last record number and which turns have begun.

Journal: one JSON object a line, appended with a single write, UTF-8, never longer than 1 MiB + 4 KiB:

    {"n": 1, "t": 1732459000.123, "kind": "boot", "version": 1, "python": "3.11.2", "generation": null}
    {"n": 2, "t": …, "kind": "turn", "turn": 1, "generation": 1}                    the turn has begun; the lock is taken
    {"n": 3, "t": …, "kind": "step", "turn": 1, "step": "checkout", "state": "started"}
    {"n": 4, "t": …, "kind": "out", "turn": 1, "step": "agent", "line": "…"}        standard output, a line without its newline
    {"n": 5, "t": …, "kind": "err", "turn": 1, "step": "agent", "line": "…", "cut": 123}   standard error; cut: bytes left out
    {"n": 6, "t": …, "kind": "step", "turn": 1, "step": "agent", "state": "ended", "reason": "exit", "code": 0,
                     "signal": null, "seconds": 1.2}
    {"n": 7, "t": …, "kind": "beat", "turn": 1}                                     every 10 s, also between turns
    {"n": 8, "t": …, "kind": "patch", "turn": 1, "patch": "checkpoint", "sha256": "…", "bytes": 10,
                     "left_out": [{"path": "big.bin", "bytes": 11000000, "reason": "size"}]}
    {"n": 9, "t": …, "kind": "end", "turn": 1, "step": "agent", "reason": "exit", "code": 0, "signal": null,
                     "seconds": 1.4, "has_patch": true, "error": null}

`reason` is one of exit, total, silence, stop, shutdown, memory, disk, output, error. `error` is a sentence when the
supervisor itself could not do its work (a checkout or a patch that failed), then reason is "error".
Bytes that are no UTF-8 become U+FFFD. A line over 1 MiB is cut there, the rest counted in "cut".
A turn whose output passes 256 MiB in all is ended with reason "output".

Control: a unix stream socket. A message is a 4-byte big-endian length, that many bytes of JSON (an object), then
as many raw bytes as its "size" says (0 when absent). Every request gets one reply; a connection may carry many.

    {"do": "ping"}                                        → {"ok": true, "pid": 1, "turn": 1 | null, "turns": [[generation, number], …]}
    {"do": "put", "path": P, "mode": 420, "size": N} + N  → {"ok": true}
    {"do": "get", "path": P}                              → {"ok": true, "size": N} + N
    {"do": "run", "argv": […], "timeout": S, "env": {}}   → {"ok": true, "code": 0, "is_timed_out": false, "stdout": A, "size": A+B} + A + B
    {"do": "turn", "spec": {…}}                           → {"ok": true, "is_new": true}
    {"do": "stop" | "interrupt" | "checkpoint" | "shutdown"}   → {"ok": true}
    {"do": "message", "text": "…"}                        → {"ok": true}
    {"do": "patch", "turn": 1, "kind": "final"}           → {"ok": true, "sha256": "…", "left_out": […], "size": N} + N
    any failure                                           → {"ok": false, "error": "missing" | "denied" | "busy" | "bad" | "failed", "message": "…"}

`shutdown` answers when the turn has ended with its checkpoint and everything else is dead; then the supervisor leaves.
"""
