package kernel

import (
	"context"
	"slices"

	"github.com/pmtulab/pmtulab/lab/record"
)

// SurveyOptions says what a survey covers.
type SurveyOptions struct {
	// All lists every version that the archive has, not only the newest of
	// each series.
	All bool
	// Refresh reads the package lists again, however young they are.
	Refresh bool
}

// Survey lists what is cached and what can be pulled. An archive that cannot
// be read is a problem in the result, not an error.
func (c *Cache) Survey(ctx context.Context, o SurveyOptions) (record.Kernels, error) {
	out := record.Kernels{Schema: record.KernelsSchema, Kernels: []record.Kernel{}}
	s, err := c.open()
	if err != nil {
		return out, err
	}
	cached, err := s.list()
	if err != nil {
		return out, err
	}
	catalogue, err := c.Catalogue(ctx, o.Refresh)
	switch {
	case ctx.Err() != nil:
		return out, err
	case err != nil && !c.Offline:
		out.Problems = append(out.Problems, err.Error())
	}
	for _, suite := range catalogue.Suites {
		if suite.Problem != "" {
			out.Problems = append(out.Problems, suite.Name+": "+suite.Problem)
		}
	}
	out.Kernels = append(out.Kernels, s.rows(cached, catalogue.Kernels, o.All)...)
	return out, nil
}

// rows merges what is cached with what is available.
func (s *store) rows(cached []Cached, available []Available, all bool) []record.Kernel {
	type row struct {
		build     Build
		available *Available
		cached    *Cached
	}
	var rows []row
	for i, a := range available {
		rows = append(rows, row{build: a.Build, available: &available[i]})
	}
	for i, c := range cached {
		at := slices.IndexFunc(rows, func(r row) bool { return r.available != nil && r.available.id() == c.ID })
		if at < 0 {
			rows = append(rows, row{build: c.Build, cached: &cached[i]})
		} else {
			rows[at].cached = &cached[i]
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return compareBuilds(a.build, b.build) })
	builds := buildsOf(rows, func(r row) Build { return r.build })

	var out []record.Kernel
	for i, r := range rows {
		ref := shortestRef(builds, i)
		if !all && r.cached == nil && ref != r.build.SeriesRef() {
			continue
		}
		k := record.Kernel{Ref: ref, Version: r.build.Version, Release: r.build.Release, UML: r.build.UML}
		if r.available != nil {
			k.Suites, k.Download = r.available.Suites, r.available.Size()
		}
		if r.cached != nil {
			k.Cached = s.record(*r.cached)
		}
		out = append(out, k)
	}
	return out
}

func (s *store) record(c Cached) *record.CachedKernel {
	return &record.CachedKernel{SHA256: c.ID, Source: c.Source(), Dir: s.at("kernels", c.ID), Bytes: c.Bytes, Used: c.Used}
}

// shortestRef is the shortest reference for which builds[at] is the newest.
func shortestRef(builds []Build, at int) string {
	b := builds[at]
	for _, ref := range []string{b.SeriesRef(), b.Ref()} {
		if r, err := ParseRef(ref); err == nil && r.newestOf(builds) == at {
			return ref
		}
	}
	return b.prefix() + b.Version
}
