#!/usr/bin/env bash
# gc.freeze() tells Python's collector to look at nothing that exists: usual before workers are forked, and at the end of a
# command that need not tidy up. What one would guess: nobody notices. Since triton's compiler is bound by nanobind, a
# process that has imported it (torch does for compiled models, and for some of its operators) and ends frozen prints, after all
# of its own output, instances, types and functions that were "leaked", and blames the bindings; the exit status stays 0.
# Whoever compares what a program prints, or reads stderr for errors, finds about 30 lines there. Unfrozen, nothing is printed, and
# triton 3.7.1 prints nothing either way. So: freeze in processes that are forked from, unfreeze before the end, or do not import triton.
# Output seen (Linux x86_64, Python 3.11):
#   triton 3.7.1: 0 lines, frozen 0 lines
#   triton 3.9.0: 0 lines, frozen 31 lines, first: nanobind: leaked 4 instances!
#   triton 3.9.0, frozen and unfrozen again: 0 lines
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 3.7.1 3.9.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "triton==$version"
done

lines_of() { # version, what is done last
    "$folder/$1/bin/python" -c "import gc, triton._C.libtriton; $2" >"$folder/out" 2>&1
    grep -c "" "$folder/out" || true
}

old="$(lines_of 3.7.1 pass) $(lines_of 3.7.1 "gc.freeze()")"
plain=$(lines_of 3.9.0 pass)
again=$(lines_of 3.9.0 "gc.freeze(); gc.unfreeze()")
frozen=$(lines_of 3.9.0 "gc.freeze()")
first=$(head -n 1 "$folder/out")
echo "triton 3.7.1: ${old% *} lines, frozen ${old#* } lines"
echo "triton 3.9.0: $plain lines, frozen $frozen lines, first: $first"
echo "triton 3.9.0, frozen and unfrozen again: $again lines"
[ "$old" = "0 0" ] && [ "$plain" = 0 ] && [ "$again" = 0 ]
[ "$frozen" -gt 10 ] && [[ $first == "nanobind: leaked"* ]]
