// Package sandbox is containerd's sandbox service for pods in machines of their
// own: what containerd's configuration calls sandboxer = "shim". Here no
// container stands for the pod; the pod is its machine.
//
// A sandbox is created, started, stopped and shut down, in this order. Starting
// boots the machine, into which the task service of the same shim puts the pod's
// containers; stopping ends it with all that runs in it; shutting down ends the
// shim.
//
// Generating needs protobuf-compiler and protoc-gen-go.
package sandbox

//go:generate protoc -I . --go_out=. --go_opt=paths=source_relative cri.proto
