// Command health answers gRPC's question after health, at the address that it is
// given: it is well until it gets SIGUSR1.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	state, sick := health.NewServer(), make(chan os.Signal, 1)
	signal.Notify(sick, syscall.SIGUSR1)
	go func() {
		<-sick
		state.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	}()
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, state)
	return s.Serve(l)
}
