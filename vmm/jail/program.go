package jail

import "golang.org/x/net/bpf"

// rule allows a system call, with any arguments if it has no conditions, and else
// with those that one of them holds for.
type rule struct {
	number uint32
	when   []condition
}

// condition holds when the bits mask of an argument, counted from 0, are value. With
// all bits in mask the upper half of the argument has to be zero.
type condition struct {
	argument    uint32
	mask, value uint32
}

const allBits = 1<<32 - 1

// equal is a condition on all of an argument.
func equal(argument, value uint32) condition { return condition{argument, allBits, value} }

// Layout of struct seccomp_data, and answers of a filter (linux/seccomp.h).
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16 // of 8 bytes each, the lower half first

	answerKill  = 0x8000_0000 // SECCOMP_RET_KILL_PROCESS
	answerAllow = 0x7fff_0000 // SECCOMP_RET_ALLOW
)

const archX8664 = 0xc000_003e // AUDIT_ARCH_X86_64

// assemble makes a filter that allows what a rule allows and kills the process for
// anything else. The first rule of a number decides. While numbers are compared the
// accumulator holds the call's; a rule that looks at arguments always ends in an
// answer, so that none of them is ever taken for a number.
//
// The kernel finds out which calls are allowed whatever their arguments are, and does
// not run the filter for those (seccomp_cache_prepare); for others the first are the
// fastest.
func assemble(rules []rule) ([]bpf.RawInstruction, error) {
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offsetArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: archX8664, SkipTrue: 1},
		bpf.RetConstant{Val: answerKill},
		bpf.LoadAbsolute{Off: offsetNumber, Size: 4},
	}
	for _, r := range rules {
		body := r.body()
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: r.number, SkipFalse: uint8(len(body))})
		program = append(program, body...)
	}
	return bpf.Assemble(append(program, bpf.RetConstant{Val: answerKill}))
}

// body answers for a call of r's number.
func (r rule) body() (body []bpf.Instruction) {
	if len(r.when) == 0 {
		return []bpf.Instruction{bpf.RetConstant{Val: answerAllow}}
	}
	for _, c := range r.when {
		body = append(body, c.test()...)
		body = append(body, bpf.RetConstant{Val: answerAllow})
	}
	return append(body, bpf.RetConstant{Val: answerKill})
}

// test goes on behind the next instruction if c does not hold.
func (c condition) test() []bpf.Instruction {
	low := offsetArgs + 8*c.argument
	if c.mask == allBits {
		return []bpf.Instruction{
			bpf.LoadAbsolute{Off: low + 4, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipFalse: 3},
			bpf.LoadAbsolute{Off: low, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.value, SkipFalse: 1},
		}
	}
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: low, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.mask},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.value, SkipFalse: 1},
	}
}
