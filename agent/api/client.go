package api

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/containerd/ttrpc"
)

// Client calls both services of an agent over one connection. Calls may be
// made concurrently; a blocking Wait does not hold up others.
type Client struct {
	Task    TaskService
	Machine MachineService

	rpc *ttrpc.Client
}

// NewClient takes over conn, a raw connection to the agent. onClose, if not
// nil, is called once when the connection has ended, whoever ended it; calls
// in flight then fail with ttrpc.ErrClosed.
func NewClient(conn net.Conn, onClose func()) *Client {
	opts := []ttrpc.ClientOpts{ttrpc.WithUnaryClientInterceptor(cleanErrors)}
	if onClose != nil {
		opts = append(opts, ttrpc.WithOnClose(onClose))
	}
	rpc := ttrpc.NewClient(newGuard(conn), opts...)
	return &Client{Task: NewTaskClient(rpc), Machine: NewMachineClient(rpc), rpc: rpc}
}

// mostError is how long the message of an error may be, in bytes.
const mostError = 4096

// mostVersion is how much is shown of a version that is not ours, in bytes.
const mostVersion = 32

// cleanErrors makes the message of an error one that can be shown.
func cleanErrors(ctx context.Context, req *ttrpc.Request, resp *ttrpc.Response, _ *ttrpc.UnaryClientInfo, call ttrpc.Invoker) error {
	err := call(ctx, req, resp)
	if resp.Status != nil {
		resp.Status.Message = Printable(resp.Status.Message, mostError)
	}
	return err
}

// Hello waits until the agent is ready and gives it seed, hostname and settings
// of IPC; each may be empty.
func (c *Client) Hello(ctx context.Context, hostname string, seed []byte, sysctls map[string]string) (*HelloResponse, error) {
	resp, err := c.Machine.Hello(ctx, &HelloRequest{Version: Version, Hostname: hostname, Entropy: seed, Sysctls: sysctls})
	if err != nil {
		return nil, fmt.Errorf("greet agent: %w", err)
	}
	if v := resp.GetVersion(); v != Version {
		return nil, fmt.Errorf("greet agent: it speaks version %q, want %q", Printable(v, mostVersion), Version)
	}
	return resp, nil
}

// SetClock gives the guest the host's time. The agent must be ready already.
func (c *Client) SetClock(ctx context.Context) error {
	_, err := c.Machine.Hello(ctx, &HelloRequest{Version: Version, UnixNanos: time.Now().UnixNano()})
	if err != nil {
		return fmt.Errorf("set guest's clock: %w", err)
	}
	return nil
}

// Bounds of what a guest may make the host log in one call.
const (
	mostWarnings = 32
	mostWarning  = 1024 // bytes
)

// Warnings are what the agent has warned of since the last call, as lines that
// can be shown: not many, none very long or with control characters. A guest
// that does not answer has none.
func (c *Client) Warnings(ctx context.Context) []string {
	resp, err := c.Machine.Warnings(ctx, &WarningsRequest{})
	if err != nil {
		return nil
	}
	lines := resp.GetLines()
	lines = lines[:min(len(lines), mostWarnings)]
	for i, line := range lines {
		lines[i] = Printable(line, mostWarning)
	}
	return lines
}

// RPC is the connection itself, for services that this package doesn't know,
// such as containerd's generated task client. It stays c's.
func (c *Client) RPC() *ttrpc.Client { return c.rpc }

// Close ends the connection.
func (c *Client) Close() error { return c.rpc.Close() }
