# shellcheck shell=bash
# For the demos, which source this: they run the commands of the README as they are there.
README=$HERE/../README.md

headline() { printf '\n== %s\n' "$*"; }

# readme NAME: prints the block of code behind the line <!-- demo: NAME -->.
readme() {
  awk -v mark="<!-- demo: $1 -->" '
    $0 == mark { found = 1; next }
    found && /^```/ { if (inside) exit; inside = 1; next }
    inside { print; printed = 1 }
    END { if (!printed) { print "README.md has no block behind " mark > "/dev/stderr"; exit 1 } }' "$README"
}

# commands: shows and runs the commands on standard input, with values of this cloud in place of the README's.
commands() {
  local block command
  block=$(sed -e ':join' -e '/\\$/{N; s/ *\\\n */ /; b join' -e '}' -e '/^$/d')
  while IFS= read -r command <&3; do
    printf '$ %s\n' "$command"
    eval "$command"
  done 3<<< "$block"
}
