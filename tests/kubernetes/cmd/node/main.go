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
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: node [FLAG]... up|down")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(flag.Arg(0), *dir, p); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

func run(verb, dir string, p node.Programs) error {
	switch verb {
	case "up":
		n, err := node.Up(dir, p, func(step string) { fmt.Println("  " + step) })
		if err != nil {
			return err
		}
		fmt.Printf("kubectl is %s\nexport KUBECONFIG=%s\n", n.Kubectl(), n.Kubeconfig())
		return nil
	case "down":
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			return nil
		}
		n, err := node.Open(dir)
		if err != nil {
			n = &node.Node{Dir: dir} // it was stopped at its very start
		}
		return n.Down(func(step string) { fmt.Println("  ended: " + step) })
	}
	flag.Usage()
	return fmt.Errorf("no verb %q", verb)
}
