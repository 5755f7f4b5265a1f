package series

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// The test agrees with the enumeration of all ways to deal the values out.
func TestUTestIsExact(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		n, m := 1+source.IntN(6), 1+source.IntN(6)
		values := make([]float64, n+m)
		for i := range values {
			values[i] = float64(source.IntN(1 + source.IntN(8)))
		}
		want := enumerate(values, n)
		if got := uTest(values[:n], values[n:]); math.Abs(got-want) > 1e-9 {
			t.Fatalf("%v against %v: p=%v, want %v", values[:n], values[n:], got, want)
		}
	}
}

// enumerate is the p-value of the first n values against the others.
func enumerate(values []float64, n int) float64 {
	u := func(chosen uint) (twice int) { // twice U, less its mean
		for i := range values {
			for j := range values {
				if chosen>>i&1 == 0 || chosen>>j&1 == 1 {
					continue
				}
				switch {
				case values[i] > values[j]:
					twice++
				case values[i] < values[j]:
					twice--
				}
			}
		}
		return twice
	}
	observed := abs(u(1<<n - 1))
	far, all := 0, 0
	for chosen := range uint(1) << len(values) {
		if bits.OnesCount(chosen) != n {
			continue
		}
		all++
		if abs(u(chosen)) >= observed {
			far++
		}
	}
	return float64(far) / float64(all)
}

// What is known of some cases.
func TestUTest(t *testing.T) {
	repeat := func(v float64, n int, more ...float64) []float64 {
		for range n {
			more = append(more, v)
		}
		return more
	}
	for _, c := range []struct {
		a, b []float64
		p    float64
	}{
		{repeat(1, 1), repeat(2, 1), 1},
		{repeat(1, 3), repeat(2, 3), 0.1},
		{repeat(1, 4), repeat(2, 4), 2. / 70},
		{repeat(7, 1), repeat(5, 10), 1. / 11}, // no value of the others is as far
		{repeat(1, 10), repeat(1, 10), 1},
		{nil, repeat(1, 3), 1},
		// Fisher's exact test of 40 of 40 against 8 of 10: 45/1225.
		{repeat(1, 40), repeat(1, 8, 0, 0), 45. / 1225},
		// Beyond what is exact.
		{repeat(1, 100), repeat(1, 100), 1},
		{repeat(1, 100), repeat(2, 100), 0},
		{repeat(1, 100), repeat(1, 99, 2), 0.32},
	} {
		if p := uTest(c.a, c.b); math.Abs(p-c.p) > 0.003 {
			t.Errorf("%v against %v: p=%v, want %v", c.a, c.b, p, c.p)
		}
	}
}

// Where the exact test ends, the approximation goes on.
func TestUTestApproximation(t *testing.T) {
	source := rand.New(rand.NewPCG(3, 4))
	for range 10 {
		a, b := make([]float64, exactRuns/2), make([]float64, exactRuns/2)
		shift := source.Float64()
		for i := range a {
			a[i], b[i] = math.Floor(10*source.NormFloat64()), math.Floor(10*(source.NormFloat64()+shift))
		}
		ties := rank(a, b)
		sum := 0
		for _, tie := range ties {
			sum += tie.inA * tie.rank
		}
		exact, approximate := uTest(a, b), approximate(ties, len(a), len(b), sum-len(a)*(len(a)+len(b)+1))
		if math.Abs(exact-approximate) > 0.01 {
			t.Errorf("p=%v, by approximation %v", exact, approximate)
		}
	}
}
