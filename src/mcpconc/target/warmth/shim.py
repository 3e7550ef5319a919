"""Stands on PATH under the program's name and has a warm process run it.

Sends arguments, environment, descriptors and working directory, then waits for how it ended and
ends alike. Signals are passed on; where this process is killed, the other end sees the hang-up
and kills the program. Whatever the warm process cannot do is started ordinarily, by executing the
program in this process. Imports only what needs no search on `sys.path`: this is what a warm
start costs on top.
"""

import posix
import sys
from _signal import SIG_DFL, SIG_IGN, getsignal, signal  # type: ignore[import-not-found]
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket

ADDRESS = "@ADDRESS@"
PROGRAM = "@PROGRAM@"
PASSED_ON = (1, 2, 3, 10, 12, 15)
"""HUP, INT, QUIT, USR1, USR2, TERM."""


def main() -> None:
    try:
        warm = ask()
    except OSError:
        ordinarily()
    for number in PASSED_ON:
        if getsignal(number) is not SIG_IGN:
            signal(number, lambda number, frame: warm.send(bytes([number])))
    answer = b""
    while not answer.endswith(b"\n"):
        more = warm.recv(64)
        if not more:
            posix.write(2, b"mcpconc: the warm process ended before this program did\n")
            posix._exit(1)
        answer += more
    code = int(answer[1:])
    if answer[:1] == b"o":
        ordinarily()
    if answer[:1] == b"s":
        if code not in (9, 19):
            signal(code, SIG_DFL)
        posix.kill(posix.getpid(), code)
    posix._exit(code)


def ask() -> socket:
    """The request: three descriptors and the working directory with a line of two numbers, the
    sizes of what follows: arguments and environment, each word with a NUL after it."""
    warm = socket(AF_UNIX, SOCK_STREAM)
    warm.connect(ADDRESS)
    encoding = sys.getfilesystemencoding()
    words = b"".join(w.encode(encoding, "surrogateescape") + b"\0" for w in sys.argv[1:])
    env = b"".join(b"%b=%b\0" % item for item in posix.environ.items())
    here = posix.open(".", posix.O_RDONLY | posix.O_DIRECTORY)
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2, here))
    head = b"%d %d\n" % (len(words), len(env))
    warm.sendmsg([head], [(SOL_SOCKET, SCM_RIGHTS, rights)])
    warm.sendall(words + env)
    posix.close(here)
    return warm


def ordinarily() -> None:
    for number in (13, 25):  # Python ignores PIPE and XFSZ, and what is executed inherits that
        signal(number, SIG_DFL)
    posix.execve(PROGRAM, [PROGRAM, *sys.argv[1:]], posix.environ)


main()
