package report

import (
	"io"

	"github.com/pmtulab/pmtulab/lab/record"
)

// Survey writes s as text for people.
func Survey(w io.Writer, s record.Survey, style Style) error {
	p := newPrinter(style)
	for _, place := range s.Places {
		can := p.paint(green, "can run "+s.Scenario)
		if !place.Usable {
			can = p.paint(red, "cannot run "+s.Scenario)
		}
		title := placeName(place.Name)
		if place.Kernel != "" {
			title += ", Linux " + place.Kernel
		}
		p.line("%-6s%s  %s", place.Name, can, p.faint(title))
		for _, c := range place.Capabilities {
			p.capability(c)
		}
		p.line("")
	}
	if s.Auto == "" {
		p.line("--on auto  %s", p.paint(red, "nowhere: "+s.Reason))
	} else {
		p.line("--on auto  %s: %s", p.bold(s.Auto), s.Reason)
	}
	return p.writeTo(w)
}

func (p *printer) capability(c record.Capability) {
	text := c.What
	if c.Detail != "" {
		text += ": " + c.Detail
	}
	switch c.State {
	case record.CapabilityThere:
		p.hang(6, "  "+p.paint(green, "✓")+" "+text)
	case record.CapabilityMissing:
		p.hang(6, "  "+p.paint(red, "✗")+" "+text)
		p.hang(8, "    → "+p.bold(c.Remedy))
	default:
		p.hang(6, "  "+p.paint(yellow, "?")+" "+text)
	}
}
