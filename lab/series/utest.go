package series

import (
	"math"
	"slices"
)

// exactRuns is up to how many values in all the U-test is exact.
const exactRuns = 60

// uTest is the Mann-Whitney U-test: the probability that two samples of the same
// distribution have rank sums at least as far from their mean as these have.
// Values that are equal share their ranks, as those of counters mostly are; the
// test of golang.org/x/perf/benchmath is meant for times, and wrong on ties.
// Beyond exactRuns it is the normal approximation with a correction for ties.
func uTest(a, b []float64) (p float64) {
	ties := rank(a, b)
	n, m := len(a), len(b)
	if len(ties) < 2 || n == 0 || m == 0 {
		return 1 // all are equal
	}
	sum := 0 // twice the rank sum of a
	for _, t := range ties {
		sum += t.inA * t.rank
	}
	mean := n * (n + m + 1)
	if n+m > exactRuns {
		return approximate(ties, n, m, sum-mean)
	}
	far, all := 0.0, 0.0
	for s, ways := range rankSums(ties, n) {
		all += ways
		if abs(s-mean) >= abs(sum-mean) {
			far += ways
		}
	}
	return far / all
}

// smallest is the least p-value that samples of n and m values can have.
func smallest(n, m int) float64 {
	ways := 1.0
	for i := range min(n, m) {
		ways *= float64(n+m-i) / float64(i+1)
	}
	return min(1, 2/ways)
}

// tie is a group of equal values.
type tie struct {
	// rank is twice the rank that they share.
	rank int
	// size is how many there are, inA how many of them in the first sample.
	size, inA int
}

// rank groups the values of two samples in ascending order.
func rank(a, b []float64) []tie {
	all := slices.Concat(a, b)
	slices.Sort(all)
	inA := map[float64]int{}
	for _, v := range a {
		inA[v]++
	}
	var ties []tie
	for i := 0; i < len(all); {
		size := 1
		for i+size < len(all) && all[i+size] == all[i] {
			size++
		}
		ties = append(ties, tie{rank: 2*i + size + 1, size: size, inA: inA[all[i]]})
		i += size
	}
	return ties
}

// rankSums counts the ways to choose n values, by twice their rank sum.
func rankSums(ties []tie, n int) []float64 {
	total := 0
	for _, t := range ties {
		total += t.size
	}
	width := 2*n*total + 1
	ways := make([][]float64, n+1) // by the number chosen so far, and their sum
	for k := range ways {
		ways[k] = make([]float64, width)
	}
	ways[0][0] = 1
	for _, t := range ties {
		for k := n; k > 0; k-- {
			choose := 1.0 // of t.size, j
			for j := 1; j <= min(t.size, k); j++ {
				choose *= float64(t.size-j+1) / float64(j)
				for s := j * t.rank; s < width; s++ {
					ways[k][s] += choose * ways[k-j][s-j*t.rank]
				}
			}
		}
	}
	return ways[n]
}

// approximate is the two-sided p-value of a rank sum that is off/2 from its mean.
func approximate(ties []tie, n, m, off int) float64 {
	total, correction := float64(n+m), 0.0
	for _, t := range ties {
		size := float64(t.size)
		correction += size * (size*size - 1)
	}
	sigma := math.Sqrt(float64(n) * float64(m) / 12 * (total + 1 - correction/(total*(total-1))))
	z := max(0, math.Abs(float64(off))/2-0.5) / sigma
	return math.Erfc(z / math.Sqrt2)
}

func abs(n int) int { return max(n, -n) }
