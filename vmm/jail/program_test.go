package jail

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// answer runs a filter as the kernel would. The machine of package bpf reads big
// endian, so that each field is turned round.
func answer(t *testing.T, program []bpf.RawInstruction, arch, number uint32, args ...uint64) int {
	t.Helper()
	data := binary.BigEndian.AppendUint32(nil, number)
	data = binary.BigEndian.AppendUint32(data, arch)
	data = append(data, make([]byte, 8)...) // instruction pointer
	for i := range 6 {
		var a uint64
		if i < len(args) {
			a = args[i]
		}
		data = binary.BigEndian.AppendUint32(data, uint32(a))
		data = binary.BigEndian.AppendUint32(data, uint32(a>>32))
	}
	instructions, whole := bpf.Disassemble(program)
	if !whole {
		t.Fatal("an instruction is none")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	got, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestProgramAllowsWhatIsListed asks the real filters for every number, with arguments
// that are numbers of other rules, values of other conditions, and both halves.
func TestProgramAllowsWhatIsListed(t *testing.T) {
	for whose, rules := range map[string][]rule{"machine": machineRules(), "network": networkRules()} {
		t.Run(whose, func(t *testing.T) { allowsWhatIsListed(t, rules) })
	}
}

func allowsWhatIsListed(t *testing.T, rules []rule) {
	program, err := assemble(rules)
	if err != nil {
		t.Fatal(err)
	}
	byNumber := map[uint32]rule{}
	values := []uint64{0, 1, 2, 4, 7, 1 << 32, 1<<64 - 1}
	for _, r := range rules {
		if _, twice := byNumber[r.number]; twice {
			t.Errorf("two rules for call %d", r.number)
		}
		byNumber[r.number] = r
		values = append(values, uint64(r.number))
		for _, c := range r.when {
			values = append(values, uint64(c.value), uint64(c.value)|1<<32)
		}
	}
	for number := range uint32(600) {
		r, listed := byNumber[number]
		for _, v := range values {
			for argument := range 3 {
				args := make([]uint64, 3)
				args[argument] = v
				want := answerKill
				if listed && r.holds(args) {
					want = answerAllow
				}
				if got := answer(t, program, archX8664, number, args...); got != want {
					t.Fatalf("call %d with %#x: %#x, want %#x", number, args, got, want)
				}
			}
		}
	}
	for _, arch := range []uint32{0, 0x40000003 /* i386 */, archX8664 + 1} {
		if got := answer(t, program, arch, unix.SYS_READ); got != answerKill {
			t.Errorf("architecture %#x: %#x", arch, got)
		}
	}
	if got := answer(t, program, archX8664, 0x4000_0000|unix.SYS_READ); got != answerKill {
		t.Errorf("x32: %#x", got)
	}
}

func (r rule) holds(args []uint64) bool {
	if len(r.when) == 0 {
		return true
	}
	for _, c := range r.when {
		a := args[c.argument]
		if uint32(a)&c.mask == c.value && (c.mask != allBits || a>>32 == 0) {
			return true
		}
	}
	return false
}
