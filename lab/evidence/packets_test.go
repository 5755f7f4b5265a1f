package evidence

import "testing"

func TestRingAndSlots(t *testing.T) {
	for _, c := range []struct{ nodes, slot, want int }{
		{0, 256, 16384},
		{1, 256, 16384},
		{16, 256, 8192},
		{20, 256, 6400},
		{50, 256, 2560},
		{500, 256, 1024},
		{3, 2048, 2048},
		{50, 2048, 320},
		{500, 2048, 256},
		{1, 16384, 1024},
		{3, 16384, 680},
		{50, 16384, 256},
	} {
		got := ringSlots(c.nodes, c.slot)
		if got != c.want {
			t.Errorf("%d nodes, slots of %d bytes: %d slots, want %d", c.nodes, c.slot, got, c.want)
		}
		if got*c.slot%blockSize != 0 {
			t.Errorf("%d nodes, slots of %d bytes: %d do not fill whole blocks", c.nodes, c.slot, got)
		}
	}
	for snap, want := range map[int]int{0: 256, 176: 256, 177: 512, 1514: 2048, 9014: 16384, 1 << 20: 16384} {
		if got := slotSize(snap); got != want {
			t.Errorf("%d bytes of a frame: slots of %d, want %d", snap, got, want)
		}
	}
}
