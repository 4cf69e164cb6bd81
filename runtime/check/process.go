package check

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
)

// Process is how a running process is confined, as the kernel says.
type Process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
	// UID is the effective user, in the namespace of who asks.
	UID int `json:"uid"`
	// Capabilities are those that one of the threads has, effective or permitted.
	Capabilities []string `json:"capabilities"`
	// NoNewPrivileges says that all threads have no_new_privs.
	NoNewPrivileges bool `json:"noNewPrivileges"`
	// Filtered and Threads are how many threads have a system call filter, and how
	// many there are.
	Filtered int `json:"filtered"`
	Threads  int `json:"threads"`
	// Own and Shared are the kinds of namespaces that are not, or are, those of who
	// asks.
	Own    []string `json:"ownNamespaces"`
	Shared []string `json:"sharedNamespaces"`
	// Root is what the process sees in its root directory.
	Root []string `json:"root"`
	// Descriptors are what is open, as in /proc/PID/fd.
	Descriptors map[int]string `json:"descriptors"`
	// Children are confined processes of their own.
	Children []*Process `json:"children,omitempty"`
	// Network is the process of a VM process's user-mode network, nil if it has none.
	Network *Process `json:"network,omitempty"`

	parent int
}

// networkName is the process name of microvm-network.
const networkName = "microvm-network"

// ReadMachine reads how VM process pid, its children and its user-mode network's
// process are confined, which is started by the same owner. It needs what
// [ReadProcess] needs.
func ReadMachine(pid int) (*Process, error) {
	p, err := ReadProcess(pid)
	if err != nil || p.parent == 0 {
		return p, err
	}
	siblings, err := children(p.parent)
	if err != nil {
		return nil, fmt.Errorf("read children of process %d: %w", p.parent, err)
	}
	for _, sibling := range siblings {
		// One that has ended meanwhile is no network's.
		if name, _ := os.ReadFile(path(sibling, "comm")); strings.TrimSpace(string(name)) == networkName {
			p.Network, err = ReadProcess(sibling)
			return p, err
		}
	}
	return p, nil
}

// ReadProcess reads how process pid and its children are confined. It needs to be
// root, or the same user.
func ReadProcess(pid int) (*Process, error) {
	p := &Process{PID: pid, Capabilities: []string{}, NoNewPrivileges: true, Root: []string{}, Descriptors: map[int]string{}}
	for _, read := range []func() error{p.readName, p.readThreads, p.readNamespaces, p.readRoot, p.readDescriptors, p.readChildren} {
		if err := read(); err != nil {
			return nil, fmt.Errorf("read process %d: %w", pid, err)
		}
	}
	return p, nil
}

func (p *Process) path(name string) string { return path(p.PID, name) }

func path(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

func (p *Process) readName() error {
	name, err := os.ReadFile(p.path("comm"))
	p.Name = strings.TrimSpace(string(name))
	return err
}

// readThreads reads /proc/PID/task/TID/status, see proc_pid_status(5).
func (p *Process) readThreads() error {
	tasks, err := filepath.Glob(p.path("task/*/status"))
	if err != nil {
		return err
	}
	var caps uint64
	for _, path := range tasks {
		status, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // a thread that has ended
		}
		if err != nil {
			return err
		}
		p.Threads++
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			caps |= p.note(key, strings.TrimSpace(value))
		}
	}
	for _, c := range capability.ListKnown() {
		if caps&(1<<uint(c)) != 0 {
			p.Capabilities = append(p.Capabilities, c.String())
		}
	}
	return nil
}

// note takes note of a line of a thread's status, and returns its capabilities.
func (p *Process) note(key, value string) uint64 {
	switch key {
	case "Uid": // real, effective, saved, file system
		if ids := strings.Fields(value); len(ids) == 4 {
			p.UID, _ = strconv.Atoi(ids[1])
		}
	case "PPid":
		p.parent, _ = strconv.Atoi(value)
	case "CapPrm", "CapEff", "CapInh", "CapAmb":
		caps, _ := strconv.ParseUint(value, 16, 64)
		return caps
	case "NoNewPrivs":
		p.NoNewPrivileges = p.NoNewPrivileges && value == "1"
	case "Seccomp":
		if value == "2" { // SECCOMP_MODE_FILTER
			p.Filtered++
		}
	}
	return 0
}

func (p *Process) readNamespaces() error {
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		theirs, err := os.Readlink(p.path("ns/" + kind))
		if err != nil {
			return err
		}
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			return err
		}
		if theirs == ours {
			p.Shared = append(p.Shared, kind)
		} else {
			p.Own = append(p.Own, kind)
		}
	}
	return nil
}

func (p *Process) readRoot() error {
	entries, err := os.ReadDir(p.path("root/"))
	for _, e := range entries {
		p.Root = append(p.Root, e.Name())
	}
	return err
}

func (p *Process) readDescriptors() error {
	entries, err := os.ReadDir(p.path("fd"))
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		if link, err := os.Readlink(p.path("fd/" + e.Name())); err == nil {
			p.Descriptors[fd] = link
		}
	}
	return err
}

func (p *Process) readChildren() error {
	pids, err := children(p.PID)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		child, err := ReadProcess(pid)
		if err != nil {
			return err
		}
		p.Children = append(p.Children, child)
	}
	return nil
}

func children(pid int) (pids []int, err error) {
	lists, err := filepath.Glob(path(pid, "task/*/children"))
	for _, list := range lists {
		text, _ := os.ReadFile(list) // a thread that has ended has none
		for _, field := range strings.Fields(string(text)) {
			child, _ := strconv.Atoi(field)
			pids = append(pids, child)
		}
	}
	return pids, err
}

// WriteJSON writes p as one JSON object.
func (p *Process) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(p)
}

// WriteText writes p, its children and its network line by line.
func (p *Process) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-17s%s\n", name, fmt.Sprintf(format, args...))
	}
	line("process", "%d %s", p.PID, p.Name)
	line("user", "%d", p.UID)
	line("capabilities", "%s", orNone(p.Capabilities))
	line("no_new_privs", "%s", yes(p.NoNewPrivileges))
	line("filter", "on %d of %d threads", p.Filtered, p.Threads)
	line("own namespaces", "%s", orNone(p.Own))
	line("shared", "%s", orNone(p.Shared))
	line("root", "%s", orNone(p.Root))
	for _, kind := range p.kinds() {
		line("descriptor", "%s", kind)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	for _, c := range p.Children {
		if err := c.WriteText(w); err != nil {
			return err
		}
	}
	if p.Network == nil {
		return nil
	}
	return p.Network.WriteText(w)
}

// kinds are what the descriptors lead to, each once with their number.
func (p *Process) kinds() (list []string) {
	counts := map[string]int{}
	for _, link := range p.Descriptors {
		if kind, _, numbered := strings.Cut(link, ":["); numbered && kind != "anon_inode" {
			link = kind // socket:[1234], pipe:[5678]
		}
		counts[link]++
	}
	for link, n := range counts {
		list = append(list, fmt.Sprintf("%s (%d)", link, n))
	}
	slices.Sort(list)
	return list
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, " ")
}
