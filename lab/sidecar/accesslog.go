//go:build linux

// What is known of one proxied connection, and its line in the access log.

package sidecar

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Connection is a pair of TCP connections: the application's, downstream, and
// the sidecar's own, upstream. Moments are nanoseconds on CLOCK_MONOTONIC.
type Connection struct {
	// ID counts accepted connections from 1.
	ID uint64 `json:"id"`
	// DownstreamRemote is the application's own address: what its
	// getsockname(2) gives.
	DownstreamRemote netip.AddrPort `json:"downstream_remote"`
	// DownstreamLocal is where the redirect led the connection, 127.0.0.1 and
	// the sidecar's port.
	DownstreamLocal netip.AddrPort `json:"downstream_local"`
	// OriginalDestination is where the application connected to: what its
	// getpeername(2) gives.
	OriginalDestination netip.AddrPort `json:"original_destination,omitzero"`
	// UpstreamLocal and UpstreamRemote are the four-tuple on the wire, zero
	// when there was no connection.
	UpstreamLocal  netip.AddrPort `json:"upstream_local,omitzero"`
	UpstreamRemote netip.AddrPort `json:"upstream_remote,omitzero"`
	// Accepted is when the sidecar took the connection from its listener.
	Accepted int64 `json:"accepted_ns"`
	// Connected is when the upstream connection was established, 0 before.
	Connected int64 `json:"connected_ns,omitempty"`
	// Closed is when both connections were closed, 0 before.
	Closed int64 `json:"closed_ns,omitempty"`
}

// monotonic is the present on CLOCK_MONOTONIC in nanoseconds.
func monotonic() int64 {
	var ts unix.Timespec
	// CLOCK_MONOTONIC always exists, and ts is a valid address.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// ResponseFlags tell why a connection ended, in Envoy's letters
// (%RESPONSE_FLAGS%); empty when both sides ended it with a FIN.
type ResponseFlags string

const (
	// UpstreamConnectFailure: no upstream connection, refused or timed out;
	// the sidecar tries once (Envoy's max_connect_attempts).
	UpstreamConnectFailure ResponseFlags = "UF,URX"
	// UpstreamConnectionTermination: the upstream connection was reset.
	UpstreamConnectionTermination ResponseFlags = "UC"
	// DownstreamConnectionTermination: the application reset its connection.
	DownstreamConnectionTermination ResponseFlags = "DC"
	// NoHealthyUpstream: the connection was not redirected but made to the
	// sidecar's own port; to follow it would be a loop.
	NoHealthyUpstream ResponseFlags = "UH"
)

// Names of Istio's two clusters for traffic without a service.
const (
	passthroughCluster = "PassthroughCluster"
	blackHoleCluster   = "BlackHoleCluster"
)

// AccessLogEntry is what became of one connection.
type AccessLogEntry struct {
	Connection
	// Start is the wall-clock moment of Accepted.
	Start time.Time `json:"start"`
	// Flags is empty after an orderly end.
	Flags ResponseFlags `json:"flags,omitempty"`
	// TransportFailure says why the upstream connect failed, in Envoy's words.
	TransportFailure string `json:"transport_failure,omitempty"`
	// BytesReceived and BytesSent count TCP payload from and to downstream.
	BytesReceived uint64 `json:"bytes_received"`
	BytesSent     uint64 `json:"bytes_sent"`
	// Cluster is PassthroughCluster, or BlackHoleCluster for a refused loop.
	Cluster string `json:"cluster"`
}

// Duration is how long the connection lived.
func (e AccessLogEntry) Duration() time.Duration {
	return time.Duration(e.Closed - e.Accepted)
}

// String is the entry's line in Istio's default text format, without newline:
//
//	[START_TIME] "METHOD PATH PROTOCOL" RESPONSE_CODE RESPONSE_FLAGS
//	RESPONSE_CODE_DETAILS CONNECTION_TERMINATION_DETAILS
//	"UPSTREAM_TRANSPORT_FAILURE_REASON" BYTES_RECEIVED BYTES_SENT DURATION
//	UPSTREAM_SERVICE_TIME "X-FORWARDED-FOR" "USER-AGENT" "X-REQUEST-ID"
//	"AUTHORITY" "UPSTREAM_HOST" UPSTREAM_CLUSTER UPSTREAM_LOCAL_ADDRESS
//	DOWNSTREAM_LOCAL_ADDRESS DOWNSTREAM_REMOTE_ADDRESS REQUESTED_SERVER_NAME
//	ROUTE_NAME
//
// What only HTTP has is "-", and the response code 0. As in Envoy, DURATION is
// in milliseconds and DOWNSTREAM_LOCAL_ADDRESS is the original destination.
func (e AccessLogEntry) String() string {
	host := orDash(e.UpstreamRemote)
	if e.Cluster == passthroughCluster && !e.UpstreamRemote.IsValid() {
		host = orDash(e.OriginalDestination)
	}
	local := e.OriginalDestination
	if !local.IsValid() {
		local = e.DownstreamLocal
	}
	return fmt.Sprintf(`[%s] "- - -" 0 %s - - "%s" %d %d %d - "-" "-" "-" "-" "%s" %s %s %s %s - -`,
		e.Start.UTC().Format("2006-01-02T15:04:05.000Z"),
		dash(string(e.Flags)), dash(e.TransportFailure),
		e.BytesReceived, e.BytesSent, e.Duration().Milliseconds(),
		host, dash(e.Cluster), orDash(e.UpstreamLocal), orDash(local), orDash(e.DownstreamRemote))
}

// dash is Envoy's sign for a field without value.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func orDash(a netip.AddrPort) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}
