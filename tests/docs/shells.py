"""What the shells propose: bash and zsh are run at a terminal of their own, where all completions of a word are inserted into the
line; fish has a command for it.
"""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path

from tests.mounts.mounting import skip_or_fail

SHELLS = ("bash", "zsh", "fish")
FILES = {"bash": "vmcorefs", "zsh": "_vmcorefs", "fish": "vmcorefs.fish"}
_TIMEOUT = 30.0
_BEGIN, _END = "\x02", "\x03"

# Ctrl-O inserts all completions of the word before the cursor, Tab is as always, Ctrl-T prints the line between _BEGIN and _END.
_BASH = r"""
PS1=; unset PROMPT_COMMAND; bind 'set enable-bracketed-paste off'; bind 'set bell-style none'
bind 'set show-all-if-ambiguous off'; bind 'set completion-query-items 0'; bind 'set mark-directories on'
source {file}
bind '"\C-o": insert-completions'
bind -x '"\C-t": printf "\x02%s\x03" "$READLINE_LINE"'
cd {folder}; clear() {{ :; }}
printf '\x02%s\x03' ready
"""
_ZSH = r"""
PS1=; unsetopt zle_bracketed_paste prompt_cr prompt_sp 2>/dev/null; unset zle_bracketed_paste
fpath=({completions} $fpath); autoload -Uz compinit; compinit -u -d {dump}
zstyle ':completion:*' list-prompt ''
zle -C all-matches complete-word _generic; bindkey '^O' all-matches
zstyle ':completion:all-matches:*' completer _all_matches _complete
zstyle ':completion:all-matches:*' insert yes
zstyle ':completion:all-matches:*' old-matches no
show() {{ printf '\x02%s\x03' "$BUFFER" }}; zle -N show; bindkey '^T' show; bindkey '^I' complete-word
unsetopt auto_list list_beep; LISTMAX=1000000
cd {folder}
printf '\x02%s\x03' ready
"""


def need(shell: str) -> None:
    if shutil.which(shell) is None:
        skip_or_fail(f"{shell} is not installed")


def _environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", "TERM": "dumb", "XDG_CONFIG_HOME": str(home),
            "XDG_DATA_HOME": str(home)}


def _fish(completions: Path, folder: Path, home: Path, typed: str) -> str:
    script = f"source {shlex.quote(str(completions / FILES['fish']))}; complete -C {shlex.quote(typed)}"
    done = subprocess.run(["fish", "--no-config", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
                          timeout=_TIMEOUT, cwd=folder, env=_environment(home))
    assert done.stderr == "", done.stderr
    return done.stdout


class _Terminal:
    """A shell at a terminal."""

    def __init__(self, words: list[str], folder: Path, home: Path):
        control, terminal = pty.openpty()
        self._control = control
        self._process = subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True, cwd=folder,
                                         env=_environment(home))
        os.close(terminal)
        self._seen = ""

    def say(self, text: str) -> None:
        os.write(self._control, text.encode())

    def hear(self) -> str:
        """What stands between the next two marks."""
        end = time.monotonic() + _TIMEOUT
        while _END not in self._seen.partition(_BEGIN)[2]:
            ready, _, _ = select.select([self._control], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"the shell does not answer; it said: {self._seen!r}"
            self._seen += os.read(self._control, 65536).decode("utf-8", "replace")
        text, _, self._seen = self._seen.partition(_BEGIN)[2].partition(_END)
        return text

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._control)


class Shell:
    """One of SHELLS with the completions in a folder, at work in *folder*. *home* is an empty folder."""

    def __init__(self, name: str, completions: Path, folder: Path, home: Path):
        need(name)
        self.name = name
        self._where = completions, folder, home
        self._terminal: _Terminal | None = None
        if name != "fish":
            words = ["bash", "--norc", "--noprofile", "-i"] if name == "bash" else ["zsh", "-f", "-i"]
            setup = (_BASH if name == "bash" else _ZSH).format(
                file=shlex.quote(str(completions / FILES[name])), completions=shlex.quote(str(completions)),
                folder=shlex.quote(str(folder)), dump=shlex.quote(str(home / "dump")))
            (home / "setup").write_text(setup)
            self._terminal = _Terminal(words, folder, home)
            self._terminal.say(f". {shlex.quote(str(home / 'setup'))}\r")
            assert self._terminal.hear() == "ready"

    def close(self) -> None:
        if self._terminal is not None:
            self._terminal.close()

    def _line(self, typed: str, key: str) -> str:
        assert self._terminal is not None
        self._terminal.say(f"\x15{typed}{key}\x14")  # Ctrl-U first
        return self._terminal.hear()

    def words(self, typed: str) -> list[str]:
        """All that is proposed for the last word of *typed*."""
        if self.name == "fish":
            return [line.partition("\t")[0] for line in _fish(*self._where, typed).splitlines()]
        line = self._line(typed, "\x0f")
        before = typed[:typed.rindex(" ") + 1]
        assert line.startswith(before), line
        found = [] if line.rstrip() == typed.rstrip() else shlex.split(line[len(before):])
        # zsh leaves what it would take away again at the next key: a comma behind a word of -o, a = behind an option
        return [word.rstrip("=" if word.startswith("-") else ",") for word in found] if self.name == "zsh" else found

    def tab(self, typed: str) -> str:
        """The line after one Tab."""
        return self._line(typed, "\t")
