package qemu

import "time"

// The interpreter's TSC is the host's. A guest finds its frequency with the
// help of the PIT, which needs timer interrupts on time; on a busy host they
// are late, and the kernel gives the TSC up and counts lost ticks from then on.
// So it is measured here, where time is known, and given to the kernel.

const (
	// tscInterval is how long the measurement takes. Both of its ends are
	// known to some 50 ns, so that the error is about 20 ppm.
	tscInterval = 5 * time.Millisecond
	tscReadings = 8
)

// Frequencies that a TSC can have, in kHz.
const (
	minTSC = 100_000
	maxTSC = 20_000_000
)

// ticks reads the TSC.
func ticks() uint64

// tscFrequency measures the frequency of the host's TSC in kHz, 0 if the
// result is absurd.
func tscFrequency() uint64 {
	t0, c0 := readTSC()
	time.Sleep(tscInterval)
	t1, c1 := readTSC()
	elapsed := t1.Sub(t0).Nanoseconds()
	if elapsed <= 0 || c1 <= c0 {
		return 0
	}
	khz := uint64(float64(c1-c0) * 1e6 / float64(elapsed))
	if khz < minTSC || khz > maxTSC {
		return 0
	}
	return khz
}

// readTSC reads clock and TSC at the same time, as well as it goes: the reading
// that took least is the one that was not interrupted.
func readTSC() (now time.Time, count uint64) {
	best := ^uint64(0)
	for range tscReadings {
		before := ticks()
		t := time.Now()
		after := ticks()
		if took := after - before; took < best {
			best, now, count = took, t, before+took/2
		}
	}
	return now, count
}
