// Package stdio joins a process's standard streams on this side, which are
// plain descriptors or a terminal, to the connections that carry them into the
// guest.
//
// Nothing is lost, doubled or reordered: input goes on until its end or until
// the guest stops reading, output until the guest's half-close. A side that
// does not read holds the other one up.
package stdio
