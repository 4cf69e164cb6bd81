// Package api is the protocol between a virtual machine's owner and the agent
// inside it: addresses, messages, and the client's side of both services.
//
// Two services are served with ttrpc on vsock port [PortAgent], and on the
// connection that the agent opens to the same port of the host when it is
// ready:
//
//   - "containerd.task.v3.Task", containerd's own task service. The messages
//     here are wire compatible with containerd's, so that its generated client
//     works as well; they exist because containerd's Go package links all of
//     gRPC, which would make up almost half of the agent.
//   - "microvm.agent.v1.Machine", for the machine itself.
//
// All calls go from host to guest. Standard streams are connections of their
// own, see [OpenStream]. Errors are gRPC status errors whose message is meant
// for the user.
//
// Generating needs protobuf-compiler and libprotobuf-dev, protoc-gen-go and
// protoc-gen-go-ttrpc.
package api

//go:generate protoc -I . -I /usr/include --go_out=. --go_opt=paths=source_relative --go-ttrpc_out=. --go-ttrpc_opt=paths=source_relative machine.proto
//go:generate protoc -I . -I /usr/include --go_out=. --go_opt=paths=source_relative task.proto
