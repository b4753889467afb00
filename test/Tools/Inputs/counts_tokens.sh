#!/bin/sh
# Interesting (1) while the file counts tokens.
grep -q nn.count_tokens "$1" && exit 1
exit 0
