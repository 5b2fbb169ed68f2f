#!/bin/sh
# bpf-linker for version 3 of the BPF instruction set (Linux 5.1): 32-bit registers, and all comparisons. The compiler
# asks for `--cpu generic`, which is version 1: it needs 5 % more instructions in all, and more for each packet.
for argument do
    shift
    if [ "$previous" = --cpu ]; then
        set -- "$@" v3
    else
        set -- "$@" "$argument"
    fi
    previous=$argument
done
exec bpf-linker "$@"
