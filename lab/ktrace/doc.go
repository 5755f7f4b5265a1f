// Package ktrace tells which kernel functions were called in some network
// namespaces, by whom, with which arguments and with what result. It puts
// kprobes on them through tracefs: no compiler, no BPF, and the same on every
// kernel since 5.10.
//
// What it makes is its own: a group of probes and a ring buffer (an instance of
// tracefs) of one name, "pmtulab_PID_…". Probes and instances of others are not
// touched. Both go with [Trace.Stop]; those of a killed process go with the next
// Start. A probe is in the kernel's code and so in the way of every namespace;
// but only calls in the given namespaces are recorded.
//
// Where fields lie in the kernel's structures comes from its own type
// information (BTF).
package ktrace
