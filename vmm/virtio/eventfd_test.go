package virtio

import "testing"

func TestEventFDStopUnblocksWait(t *testing.T) {
	e, err := NewEventFD()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	e.Ring()
	e.Ring()
	if !e.Wait() {
		t.Fatal("rung doorbell did not wake")
	}
	done := make(chan bool)
	go func() { done <- e.Wait() }()
	e.Stop()
	if <-done {
		t.Fatal("Wait returned true after Stop without a ring")
	}
	e.Restart()
	e.Ring()
	if !e.Wait() {
		t.Fatal("doorbell dead after Restart")
	}
}

// TestEventFDWaitAfterClose does not take another's rings, whose descriptor has the
// number now.
func TestEventFDWaitAfterClose(t *testing.T) {
	e, err := NewEventFD()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := NewEventFD()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.Ring()
	if e.Wait() {
		t.Errorf("descriptor %d is waited for, which was closed", e.FD())
	}
	if !other.Wait() {
		t.Error("another doorbell has lost its ring")
	}
}
