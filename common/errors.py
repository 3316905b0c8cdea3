"""What a command says to its user: text on one line, and errors that can be acted on."""

from __future__ import annotations

import errno
import os
import reprlib
import shlex
import sys
from collections.abc import Callable
from typing import Any

from common.streams import safe_streams

Say = Callable[[str], None]  # receives lines that are meant for the user; print by default

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE
LESS_MEMORY = "lower --batch_size, or use smaller images"
# Parts of the messages of PyTorch's CPU allocator, OpenCV, C++ and Python's threads, whose exceptions have no own type.
OUT_OF_MEMORY = ("DefaultCPUAllocator", "Insufficient memory", "std::bad_alloc", "can't start new thread")


def one_line(text: str) -> str:
    """`text` with line breaks, control characters and undecodable bytes escaped: file names may hold any of them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shell_quote(text: str) -> str:
    """`text` as one word for a shell, on one line: as it is, 'quoted', or with what cannot be printed as $'\\n'."""
    if text.isprintable():
        return shlex.quote(text)
    parts = []
    for character in text:
        if character in "\\'":
            parts.append("\\" + character)
        elif character.isprintable():
            parts.append(character)
        else:
            parts += [f"\\x{byte:02x}" for byte in os.fsencode(character)]
    return f"$'{''.join(parts)}'"


def counted(count: int, noun: str) -> str:
    """'1 level', '3 levels'."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def brief(value: Any, limit: int = 80) -> str:
    """At most `limit` characters of repr(value), in a time that does not depend on the value.

    YAML and pickles of a few hundred bytes can hold one list in so many places that its repr fills the memory.
    """
    shortener = reprlib.Repr()
    shortener.maxlevel = 3
    shortener.maxstring = shortener.maxother = shortener.maxlong = limit
    try:
        return shortener.repr(value)[:limit]
    except ValueError:  # Python does not print integers of thousands of digits
        return f"a {type(value).__name__} of too many digits"


def what_is_wrong(error: Exception) -> str:
    """A reader's explanation of an exception that a damaged file caused; str() of a KeyError is a bare word."""
    if isinstance(error, KeyError):
        return f"no entry {brief(error.args[0])}" if error.args else "an entry is missing"
    return one_line(str(error)[:120]) or type(error).__name__


class UserError(Exception):
    """Bad input or a machine that cannot do what was asked.

    The message is one line that names the file or flag, what was expected, what was found, and the way out. Any other
    exception is a bug and keeps its traceback.
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


def run_command(command: Callable[[], int], goes_on: bool = False, less_memory: str = LESS_MEMORY) -> int:
    """Run `command` and turn errors that are not bugs into one line on stderr and exit code 2.

    Args:
        goes_on: the command's product is files: where its output cannot be written any more, it works on without.
        less_memory: what a user whose memory does not suffice can do.
    """
    with safe_streams(give_up=goes_on) as output:
        try:
            code = command()
            output.flush()
            if output.failure is not None:
                print(f"note: the output was lost ({output.failure.strerror}); the files are complete", file=sys.stderr)
            return code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED
        except BrokenPipeError:  # `export.py --describe ... | head`: the reader has gone
            return EXIT_BROKEN_PIPE
        except Exception as error:
            where = "the output" if error is output.failure else ""
            explanation = explain(error, less_memory, where)
            if explanation is None:
                raise
            print(f"error: {explanation}", file=sys.stderr)
            return EXIT_BAD_INPUT


def explain(error: Exception, less_memory: str = LESS_MEMORY, where: str = "") -> str | None:
    """One line for an error that is not a bug: of the user, the file system, or for want of memory; None for others.

    Args:
        where: what an OSError that names no file is about.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return explain_os_error(error, where)
    text = one_line(str(error).strip().partition(". GPU")[0])
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which this module does not import
        return f"the GPU is out of memory ({text[:120]}); {less_memory}, or use --device cpu"
    if isinstance(error, MemoryError) or any(sign in text for sign in OUT_OF_MEMORY):
        reason = text.rpartition("DefaultCPUAllocator: ")[2] or "an allocation failed"
        return f"out of memory ({reason[:120]}); {less_memory}"
    return None


def explain_os_error(error: OSError, where: str = "") -> str | None:
    """One line for a failure of the file system or the disk; None for errors that point to a bug.

    Args:
        where: what an error that names no file is about.
    """
    where = one_line(str(error.filename or where or "a file"))
    advice = {
        errno.ENOSPC: "the disk is full; free some space or choose another folder",
        errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.EACCES: "permission denied; choose another folder or change its permissions",
        errno.EPERM: "operation not permitted; choose another folder or change its permissions",
        errno.EEXIST: "expected a folder, found a file in its place; choose another folder",
        errno.ENOTDIR: "expected a folder, found a file in its place; choose another folder",
        errno.EISDIR: "expected a file, found a folder in its place; choose another folder",
        errno.ENAMETOOLONG: "the path is too long; choose a shorter one",
        errno.ELOOP: "its symbolic links lead in a circle; choose another folder",
        errno.EILSEQ: "the file system cannot hold such a name; choose another one",
        errno.EIO: "the disk or the network answers with an error; choose another folder, or try again",
    }.get(error.errno or 0)
    return None if advice is None else f"{where}: {advice}"


def quote(path: str | os.PathLike) -> str:
    """A path or file name for a one-line message: as it is, or its repr when it holds odd characters."""
    text = os.fspath(path)
    return text if text.isprintable() and not set(text) & set("'\"") else repr(text)
