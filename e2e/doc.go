// Package e2e holds the specs that hold the laboratory to the field report, on
// a real kernel with IPVS. They are behind the build tag "kernel" and need root
// there; scripts/test runs them in a guest:
//
//	go test -tags kernel -exec "pmtulab vm --" ./e2e
//
// Every spec is labelled with the capabilities that it needs: netns, veth,
// bridge, ipip, ipvs, redirect (of a sidecar), inet-diag, af-packet,
// mtu-expires. Where the kernel lacks one the spec is skipped, or fails when
// PMTULAB_REQUIRE lists it or is "all". Ginkgo picks specs by label:
//
//	go test -tags kernel ./e2e -ginkgo.label-filter '!ipvs && !ipip'
package e2e
