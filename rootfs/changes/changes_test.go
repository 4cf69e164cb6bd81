package changes

import "testing"

func TestChangeArrivesWhole(t *testing.T) {
	want := Change{Kind: Move, Mode: 0o100000, Dir: "x/y", Name: "a", ToName: Elsewhere}
	p := want.Append(nil)
	var got Change
	if err := got.Parse(append(p, "rest"...)); err != nil || got != want {
		t.Error(got, err)
	}
	for n := range p {
		if got.Parse(p[:n]) == nil {
			t.Errorf("%d bytes of %d were enough", n, len(p))
		}
	}
}
