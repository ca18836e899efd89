"""What runs inside every sandbox: standard library only, Python 3.8 or newer, shipped as one zipapp.

The supervisor is started in one of two ways:

    python3 -I -S supervisor.pyz --journal-fd N --control-fd M       (PID 1 of a local sandbox; inherited descriptors)
    python3 -I -S supervisor.pyz --state DIR                          (a process in a sandbox of somebody else's)

With --state, DIR holds journal.jsonl, control.sock and the lock files `turn-<generation>-<number>.lock` (O_EXCL); who cannot
reach its socket asks through `relay`.
In both ways the journal, held by an exclusive flock for the supervisor's whole life, is a lock too: the supervisor
reads it at its start to know the last record number, which turns have begun, and whether the checkout was done.

    --limits JSON      {"memory_mb", "processes", "open_files", "disk_mb", "file_mb", "watch_memory": bool}, none required
    --gateway PATH     the gateway's socket: a bridge on 127.0.0.1:3128 leads there, and steps are told of it
    --prepared yes     the workspace holds what a setup script left and no checkout: the checkout is made around that
    --disk-roots A:B   what counts against disk_mb, where that is not the workspace and home themselves
    --scratch DIR      a private folder of the supervisor's (made, 0700); default /tmp/.asynccode

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
                     "left_out": [{"path": "big.bin", "bytes": 11000000, "reason": "size"}]}   a last path "…" sums up the rest
    {"n": 9, "t": …, "kind": "end", "turn": 1, "step": "agent", "reason": "exit", "code": 0, "signal": null,
                     "seconds": 1.4, "has_patch": true, "error": null}

`reason` is one of exit, finished, total, silence, stop, shutdown, memory, disk, output, error. `error` is a sentence when the
supervisor itself could not do its work (a checkout or a patch that failed, a command that does not exist), then reason
is "error". `code` is null when a signal (a number) ended the step, both are when none ran. The `end` record names the
last step that ran and its code; its seconds are the turn's. `step` is null for a turn whose supervisor died: the next
one ends it with reason "error" and no patch.
Numbers have no gap among the lines that are JSON. A line torn by a crash is closed with a newline at the next start;
readers skip what is no JSON, and its number is used again.
Bytes that are no UTF-8 become U+FFFD. A line over 1 MiB is cut there, the rest counted in "cut"; one that takes more
than that as JSON (control characters do) is cut earlier.
A turn whose output passes 256 MiB in all, as read or as written here, is ended with reason "output".
A journal that cannot be written (a full disk) ends the step with an error; what is owed follows when it can be.

A step may have `"stdin": true`: then it takes messages, after the lines of its `"input"`; otherwise its standard input
is /dev/null. With `"ends_on"` a line of its standard output may say that its work is done: a JSON object that has all
members of one of these patterns (of objects in it again only those named), in a line that was not cut. Then its standard
input is closed when all that it was promised is written, new messages are refused, and when it has not left after
`"linger_s"` without output it is ended, with reason "finished", which counts as success. A line that matches one of
`"goes_on"` takes that back, but for the input. A step with `"acp"` is a client of the Agent Client Protocol, and its
command the agent: what it gets and writes is told in `acp`.
When its leader has ended, everything else is killed, in whatever group or session, before the next step or the patch.

Control: a unix stream socket. A message is a 4-byte big-endian length, that many bytes of JSON (an object, at most
8 MiB), then as many raw bytes as its "size" says (0 when absent; only `put` has any). Every request gets one reply; a
connection may carry many, one after the other. 64 connections at most: one more costs the longest idle one its place.

    {"do": "ping"}                                        → {"ok": true, "pid": 1, "turn": 1 | null, "turns": [[generation, number], …]}
    {"do": "put", "path": P, "mode": 420, "size": N} + N  → {"ok": true}
    {"do": "get", "path": P}                              → {"ok": true, "size": N} + N
    {"do": "run", "argv": […], "timeout": S, "env": {}}   → {"ok": true, "code": 0, "is_timed_out": false, "stdout": A, "size": A+B} + A + B
    {"do": "turn", "spec": {…}}                           → {"ok": true, "is_new": true}
    {"do": "stop" | "interrupt" | "checkpoint"}           → {"ok": true}
    {"do": "message", "text": "…"}                        → {"ok": true}
    {"do": "patch", "turn": 1, "kind": "final"}           → {"ok": true, "sha256": "…", "left_out": […], "size": N} + N
    {"do": "look", "path": F, "first": 0, "most": 100}    → {"ok": true, "entries": [{"name", "kind", "size", "target"}, …], "count": N}
    {"do": "read", "path": F, "offset": 0, "most": M}     → {"ok": true, "whole": W, "size": N} + N
    {"do": "collect", "path": F, "known": {F: sha256}, "most_files": A, "most_file_bytes": B, "most_bytes": C}
                              → {"ok": true, "files": [{"path", "bytes"}, …], "left_out": […], "size": N} + N
    {"do": "shutdown"}                                    → {"ok": true, "turn": 1 | null, "sha256": "…", "left_out": […], "size": N} + N
    any failure                                           → {"ok": false, "error": E, "message": "a sentence"}

E is "missing", "denied", "busy", "bad" or "failed".
`run` has minus the signal as `code` of a killed command. It may be used beside a turn; then the end of a step kills it
("failed"). It waits while a checkout or a final patch is made, as nothing else may be alive then.
`look`, `read` and `collect` take paths F relative to the workspace, in which bytes that are no UTF-8 are surrogates: see `browse`.
`stop` without a turn is no failure; `interrupt`, `message` and `checkpoint` without a step are ("missing").
`checkpoint` answers when it is made; after that there is one to fetch, even if nothing has changed. The newest
checkpoint and the final patch of the last two turns are kept, but not across supervisors.
`shutdown` answers when the turn has ended with its checkpoint and everything else is dead, with that patch (no
"sha256" when there is none); then the supervisor leaves.
A connection that closes before a whole reply has failed; transfers may, when a step ends and takes more than a second.
"""
