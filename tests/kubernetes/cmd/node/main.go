// Command node starts and ends the Kubernetes node of the tests.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/microvm/microvm/tests/kubernetes/node"
)

func main() {
	var p node.Programs
	dir := flag.String("dir", node.DefaultDir, "`directory` with all that the node keeps")
	flag.StringVar(&p.Kubernetes, "kubernetes", "", "`directory` with Kubernetes' programs")
	flag.StringVar(&p.Containerd, "containerd", "", "`directory` with containerd, ctr and crictl")
	flag.StringVar(&p.Runc, "runc", "", "`directory` with containerd-shim-runc-v2")
	flag.StringVar(&p.Microvm, "bin", "", "`directory` with the files of make build")
	control := flag.String("control-dir", node.DefaultDir, "`directory` of the control plane to join")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: node [FLAG]... up|control|join|down")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(flag.Arg(0), *dir, *control, p); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

func run(verb, dir, control string, p node.Programs) error {
	switch verb {
	case "up":
		return tell(node.Up(dir, node.Whole, p, say))
	case "control":
		return tell(node.Up(dir, node.Control, p, say))
	case "join":
		return tell(node.Join(dir, control, say))
	case "down":
		return down(dir)
	}
	flag.Usage()
	return fmt.Errorf("no verb %q", verb)
}

func say(step string) { fmt.Println("  " + step) }

// tell says how to use a node that is up.
func tell(n *node.Node, err error) error {
	if err == nil {
		fmt.Printf("kubectl is %s\nexport KUBECONFIG=%s\n", n.Kubectl(), n.Kubeconfig())
	}
	return err
}

func down(dir string) error {
	if _, err := os.Stat(dir); os.IsNotExist(err) {
		return nil
	}
	n, err := node.Open(dir)
	if err != nil {
		n = &node.Node{Dir: dir} // it was stopped at its very start
	}
	return n.Down(func(step string) { say("ended: " + step) })
}
