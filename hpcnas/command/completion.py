"""Completes the words of `hpcnas` in a shell: the commands first, then file names.

Put the line of your shell into its start-up file:

    bash  ~/.bashrc                   source <(hpcnas completion bash)
    zsh   ~/.zshrc, after compinit    source <(hpcnas completion zsh)
    fish  ~/.config/fish/config.fish  hpcnas completion fish | source
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hpcnas.command import common
from hpcnas.command.__main__ import COMMANDS, SHELLS

BASH = """\
_hpcnas() {{
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "{names}" -- "${{COMP_WORDS[1]}}")
    fi
}}
complete -o bashdefault -o default -F _hpcnas hpcnas
"""
ZSH = """\
_hpcnas() {{
    if (( CURRENT == 2 )); then
        local -a commands=(
{lines}
        )
        _describe command commands
    else
        _files
    fi
}}
compdef _hpcnas hpcnas
"""


def script(shell: str) -> str:
    """The text that the shell reads."""
    commands = {name: help for group in COMMANDS.values() for name, help in group.items()}
    commands["completion"] = "what a shell needs to complete these words"
    quoted = {name: help.replace("'", "’") for name, help in commands.items()}
    if shell == "bash":
        return BASH.format(names=" ".join(commands))
    if shell == "zsh":
        return ZSH.format(lines="\n".join(f"            '{name}:{help}'" for name, help in quoted.items()))
    return "".join(
        f"complete -c hpcnas -n __fish_use_subcommand -f -a {name} -d '{help}'\n" for name, help in quoted.items()
    )


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=common.HelpFormatter)
    parser.add_argument("shell", choices=SHELLS)
    print(script(parser.parse_args(arguments).shell), end="")
    return 0
