// Package x86 knows how an x86-64 machine looks to the kernel that starts on
// it: the map of its memory, what CPUID answers, the state of its processors
// before the first instruction, and the tables that describe them.
package x86
