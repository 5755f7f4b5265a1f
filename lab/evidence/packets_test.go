package evidence

import "testing"

func TestRingSlots(t *testing.T) {
	for nodes, want := range map[int]int{0: 8192, 1: 8192, 16: 8192, 20: 6400, 50: 2560, 500: 1024} {
		got := ringSlots(nodes)
		if got != want {
			t.Errorf("%d nodes: %d slots, want %d", nodes, got, want)
		}
		if got*slotSize%blockSize != 0 {
			t.Errorf("%d nodes: %d slots do not fill whole blocks", nodes, got)
		}
	}
}
