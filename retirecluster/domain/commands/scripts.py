"""Completion for shells. The scripts know nothing: they ask `retire-cluster complete` at each Tab."""

from __future__ import annotations

_SCRIPTS = {
    "bash": r"""# retire-cluster completion for bash
_retire_cluster() {
    local line="${COMP_LINE:0:COMP_POINT}" current="${COMP_WORDS[COMP_CWORD]}" word
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        COMPREPLY+=("$word")
    done < <("${COMP_WORDS[0]}" complete -- "$line" 2>/dev/null)
    # bash takes words apart at = and :, and puts a candidate in place of the last part alone.
    local whole="${line##*[[:blank:]]}"
    if [[ "$whole" == *[=:]* ]]; then
        [[ "$current" == [=:] ]] && current=""
        COMPREPLY=("${COMPREPLY[@]#"${whole%"$current"}"}")
    fi
    if [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == "<files>" ]]; then
        COMPREPLY=()
        compopt -o default 2>/dev/null
    fi
}
complete -F _retire_cluster retire-cluster
""",
    "zsh": r"""#compdef retire-cluster
# retire-cluster completion for zsh
_retire_cluster() {
    local -a found
    local word meaning
    while IFS=$'\t' read -r word meaning; do
        if [[ "$word" == "<files>" ]]; then
            _files
            return
        fi
        found+=("${word//:/\\:}:$meaning")
    done < <("${words[1]}" complete -- "${(j: :)words[1,CURRENT]}" 2>/dev/null)
    _describe 'retire-cluster' found
}
compdef _retire_cluster retire-cluster
""",
    "fish": r"""# retire-cluster completion for fish
function __retire_cluster_complete
    set -l line (commandline -cp)
    set -l found (retire-cluster complete -- "$line" 2>/dev/null)
    if test "$found" = "<files>"
        __fish_complete_path (commandline -ct)
        return
    end
    printf '%s\n' $found
end
complete -c retire-cluster -f -a '(__retire_cluster_complete)'
""",
}
FILES = "<files>"
"""What `retire-cluster complete` says where the shell itself knows: names of files."""


def script(shell: str) -> str:
    """The script for bash, zsh or fish."""
    return _SCRIPTS[shell]
