// Package e2e holds the specs that hold the laboratory to the field report, on
// a real kernel with IPVS. They are behind the build tag "kernel" and need root
// there; scripts/test runs them in a guest:
//
//	go test -tags kernel -exec "pmtulab vm --" ./e2e
package e2e
