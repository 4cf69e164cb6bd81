package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// tick is the unit of times in /proc/PID/stat, USER_HZ, which is 100 on every
// architecture of interest.
const tick = 10 * time.Millisecond

// List describes the processes of a container, or with an empty id all
// processes of the machine.
func (e *Engine) List(id string) ([]*api.Process, error) {
	pids, err := e.listed(id)
	if err != nil {
		return nil, err
	}
	booted, err := bootedAt()
	if err != nil {
		return nil, err
	}
	var list []*api.Process
	for _, pid := range pids {
		p, err := describe(pid, booted)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// List describes processes as the machine service wants it.
func (s Service) List(id string) ([]*api.Process, error) {
	list, err := s.Engine.List(id)
	return list, statusOf(err)
}

func (e *Engine) listed(id string) ([]int, error) {
	if id != "" {
		return e.Pids(id)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// bootedAt is when the machine was switched on, by its clock of now.
func bootedAt() (time.Time, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Time{}, fmt.Errorf("get boot time: %w", err)
	}
	return time.Now().Add(-time.Duration(ts.Nano())), nil
}

func describe(pid int, booted time.Time) (*api.Process, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return nil, fmt.Errorf("describe process: %w", err)
	}
	st, err := os.ReadFile(dir + "/status")
	if err != nil {
		return nil, fmt.Errorf("describe process: %w", err)
	}
	cmdline, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return nil, fmt.Errorf("describe process: %w", err)
	}
	p := &api.Process{Pid: uint32(pid)}
	name, err := parseStat(string(stat), p, booted)
	if err != nil {
		return nil, fmt.Errorf("describe process %d: %w", pid, err)
	}
	parseStatus(string(st), p)
	p.Command = commandLine(cmdline, name)
	return p, nil
}

// Fields of /proc/PID/stat behind the name, counted from 0 (proc_pid_stat(5)
// counts the whole line from 1).
const (
	statPPID  = 4 - 3
	statTTY   = 7 - 3
	statUser  = 14 - 3
	statSys   = 15 - 3
	statStart = 22 - 3
)

func parseStat(stat string, p *api.Process, booted time.Time) (name string, err error) {
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return "", errors.New("stat has no name")
	}
	name = stat[open+1 : end]
	fields := strings.Fields(stat[end+1:])
	if len(fields) <= statStart {
		return "", fmt.Errorf("stat has %d fields", len(fields))
	}
	number := func(field int) int64 {
		n, perr := strconv.ParseInt(fields[field], 10, 64)
		err = errors.Join(err, perr)
		return n
	}
	p.Ppid = uint32(number(statPPID))
	p.Tty = ttyName(uint64(number(statTTY)))
	p.CpuNanos = (number(statUser) + number(statSys)) * tick.Nanoseconds()
	p.StartedUnixNanos = booted.Add(time.Duration(number(statStart)) * tick).UnixNano()
	return name, err
}

// Majors of terminals (Documentation/admin-guide/devices.txt).
const (
	consoleMajor = 4
	ptsMajor     = 136
	ptsMajorLast = 143
	hvcMajor     = 229
)

// ttyName is how ps calls a terminal.
func ttyName(device uint64) string {
	major, minor := unix.Major(device), unix.Minor(device)
	switch {
	case major >= ptsMajor && major <= ptsMajorLast:
		return fmt.Sprintf("pts/%d", (major-ptsMajor)<<8|minor)
	case major == consoleMajor:
		return fmt.Sprintf("tty%d", minor)
	case major == hvcMajor:
		return fmt.Sprintf("hvc%d", minor)
	}
	return "?"
}

// parseStatus takes the effective user and the innermost pid.
func parseStatus(st string, p *api.Process) {
	p.ContainerPid = p.Pid
	for line := range strings.Lines(st) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch {
		case key == "Uid" && len(fields) > 1:
			p.Uid = parseUint32(fields[1])
		case key == "NSpid" && len(fields) > 0:
			p.ContainerPid = parseUint32(fields[len(fields)-1])
		}
	}
}

// parseUint32 trusts the kernel to have printed a number.
func parseUint32(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32)
	return uint32(n)
}

func commandLine(cmdline []byte, name string) string {
	cmdline = bytes.TrimRight(cmdline, "\x00")
	if len(cmdline) == 0 {
		return "[" + name + "]"
	}
	return string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}))
}
