#!/usr/bin/env bash
# Runs the tour of README.md, line by line as it stands there, on a lab where `make demo` ran. Lines of output that
# the README shows as a comment after `# →` must appear in what the line before them printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

steps=$(awk '/<!-- tour -->/ {on = 1} /<!-- end of tour -->/ {on = 0} /^```/ {code = !code; next} on && code' README.md)
[[ -n $steps ]] || { echo "README.md has no tour" >&2; exit 1; }

output=$(mktemp)
trap 'rm -f "$output"' EXIT
count=0
while IFS= read -r line; do
  case $line in
    '') ;;
    '# → '*)
      expected=${line#\# → }
      if ! grep -qF -- "$expected" "$output"; then
        printf 'FAILED: the output lacks: %s\n' "$expected" >&2
        exit 1
      fi
      ;;
    '#'*) ;;
    *)
      printf '$ %s\n' "$line"
      count=$((count + 1))
      # In this shell, so that exports hold; a step may need a moment to show its effect, which the next one tells.
      if ! eval "$line" >"$output" 2>&1 </dev/null; then
        cat "$output"
        printf 'FAILED: %s\n' "$line" >&2
        exit 1
      fi
      cat "$output"
      ;;
  esac
done <<<"$steps"
echo "the tour's $count steps work"
