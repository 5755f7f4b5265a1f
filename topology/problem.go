// Problems: everything that is wrong with a document, each with its place and
// its remedy, reported in one pass.

package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong with a document or with a value written
// in Go.
type Problem struct {
	// File is the name the document was given; empty for a value written in Go.
	File string
	// Line and Column count from 1, Column in characters; 0 when unknown.
	Line, Column int
	// Path names the value: $.nodes[0].services[1].address. A key that is not
	// made of letters, digits, dashes and underscores is quoted:
	// $.nodes[0].sysctls['net.ipv4.ip_forward'].
	Path string
	// What says what is wrong and names the object.
	What string
	// Remedy says what to write instead; it may be empty.
	Remedy string
}

// Error is "file:line:col: what; remedy", with the path where the position is
// not known.
func (p Problem) Error() string {
	var b strings.Builder
	switch {
	case p.File != "" && p.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	case p.File != "":
		fmt.Fprintf(&b, "%s: ", p.File)
	case p.Path != "":
		fmt.Fprintf(&b, "%s: ", p.Path)
	}
	b.WriteString(p.What)
	if p.Remedy != "" {
		b.WriteString("; " + p.Remedy)
	}
	return b.String()
}

// Problems is the error that Parse, Decode and Validate return: all problems
// of a document, in the order of the document.
type Problems []Problem

// Error is one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// Err is p as an error, nil when there is no problem.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Join adds problems that a later check found in the same document. A value
// that could not be read has its problem already: what the later check says of
// that value, or of one inside it, is left out, and so is what is said twice of
// one place through an alias. The result is in the order of the document where
// positions are known.
func (p Problems) Join(later Problems) Problems {
	broken := make(map[string]bool, len(p))
	for _, problem := range p {
		broken[problem.Path] = true
	}
	all := slices.Clone(p)
	for _, problem := range later {
		if !within(problem.Path, broken) {
			all = append(all, problem)
		}
	}
	slices.SortStableFunc(all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.CompactFunc(all, func(a, b Problem) bool {
		return a.Line > 0 && a.Line == b.Line && a.Column == b.Column && a.What == b.What
	})
}

// within tells whether path, or a value around it, is among the paths.
func within(path string, paths map[string]bool) bool {
	if len(paths) == 0 {
		return false
	}
	for ; path != ""; path = parent(path) {
		if paths[path] {
			return true
		}
	}
	return false
}

// parent cuts the last step off a path; inside a quoted key it returns paths
// that do not exist, which is harmless in a search upwards.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// child is the path of a key within path.
func child(path, key string) string {
	if key != "" && strings.Trim(key, nameCharacters) == "" {
		return path + "." + key
	}
	return path + "['" + strings.ReplaceAll(key, "'", `\'`) + "']"
}

// item is the path of an element of the list at path.
func item(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// quote quotes text for a problem, shortened to what a line can hold.
func quote(text string) string {
	const longest = 64
	if runes := []rune(text[:min(len(text), 4*longest)]); len(runes) > longest {
		return strconv.Quote(string(runes[:longest])) + "…"
	}
	return strconv.Quote(text)
}

// Nearest is the word of known that word is most likely a misspelling of, or
// "" when none is close.
func Nearest(word string, known ...string) string {
	// Beyond this it is not a misspelling, and not worth the comparisons.
	const longest, most = 64, 256
	if len(word) > longest || len(known) > most {
		return ""
	}
	// Words that share no letter are not alike, however short.
	best, distance := "", min(max(1, len(word)/3)+1, len(word))
	for _, candidate := range known {
		if d := editDistance(strings.ToLower(word), strings.ToLower(candidate)); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

// Allowed is the remedy for a word that is not in a closed list: the nearest
// spelling, when there is one, and the whole list.
func Allowed(word string, known ...string) string {
	const shown = 24
	known = slices.DeleteFunc(slices.Clone(known), func(word string) bool { return word == "" })
	list := "allowed: " + strings.Join(known[:min(shown, len(known))], ", ")
	if len(known) > shown {
		list += fmt.Sprintf(", … (%d in all)", len(known))
	}
	if near := Nearest(word, known...); near != "" {
		return fmt.Sprintf("did you mean %q? %s", near, list)
	}
	return list
}

// editDistance counts insertions, deletions, replacements and transpositions of
// neighbours (optimal string alignment) in bytes.
func editDistance(a, b string) int {
	previous, current, older := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range current {
		current[j] = j
	}
	for i := 1; i <= len(a); i++ {
		older, previous, current = previous, current, older
		current[0] = i
		for j := 1; j <= len(b); j++ {
			replace := previous[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			current[j] = min(previous[j]+1, current[j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], older[j-2]+1)
			}
		}
	}
	return current[len(b)]
}
