//go:build linux && kernel

// The sidecar as a process, with a redirect, between two network namespaces.
// Needs root and veth; the redirect is nf_tables' or ip_tables', by kernel.

package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/pmtulab/pmtulab/lab/capability"
	"github.com/pmtulab/pmtulab/lab/wait"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// node is a network namespace held by a descriptor.
type node struct {
	ns netns.NsHandle
	nl *netlink.Handle
}

// newNode makes a namespace that lives as long as the test.
func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{}
	made := make(chan error)
	go func() {
		// The thread is never unlocked, so it ends with this goroutine.
		runtime.LockOSThread()
		var err error
		n.ns, err = netns.New()
		made <- err
	}()
	err := <-made
	if errors.Is(err, unix.EPERM) {
		capability.Missing(t, err, "netns")
	}
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { n.ns.Close() })
	if n.nl, err = netlink.NewHandleAt(n.ns, unix.NETLINK_ROUTE); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.nl.Close)
	n.up(t, "lo")
	return n
}

func (n *node) up(t *testing.T, name string, addrs ...string) {
	t.Helper()
	link, err := n.nl.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.nl.AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

// do runs f on a thread of its own within the namespace.
func (n *node) do(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(n.ns); err != nil {
			result <- err
			return
		}
		result <- f()
	}()
	return <-result
}

func (n *node) namespace() Namespace {
	return Namespace{Do: n.do, Start: func(cmd *exec.Cmd) error { return n.do(cmd.Start) }}
}

// dial connects from within the namespace.
func (n *node) dial(t *testing.T, dst netip.AddrPort) *net.TCPConn {
	t.Helper()
	conn, err := n.tryDial(dst)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (n *node) tryDial(dst netip.AddrPort) (conn *net.TCPConn, err error) {
	err = n.do(func() error {
		d := net.Dialer{Timeout: 5 * time.Second, KeepAlive: -1}
		conn, err = d.DialTCP(context.Background(), "tcp4", netip.AddrPort{}, dst)
		return err
	})
	return conn, err
}

// echo listens on addr within the namespace and sends back what comes; peers
// receives the remote address of each connection.
func (n *node) echo(t *testing.T, addr netip.AddrPort) (peers chan netip.AddrPort) {
	t.Helper()
	peers = make(chan netip.AddrPort, 64)
	var l net.Listener
	if err := n.do(func() (err error) {
		l, err = net.Listen("tcp4", addr.String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			peers <- addrPort(conn.RemoteAddr())
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	return peers
}

var (
	clientAddr = netip.MustParseAddr("10.9.0.1")
	serverAddr = netip.MustParseAddr("10.9.0.2")
	service    = netip.AddrPortFrom(serverAddr, 8443)
)

// pair makes a client and a server with a veth pair between them.
func pair(t *testing.T) (client, server *node) {
	t.Helper()
	client, server = newNode(t), newNode(t)
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: "eth0", MTU: 1500},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(server.ns),
	}
	if err := client.nl.LinkAdd(veth); err != nil {
		t.Fatalf("make a veth pair: %v", err)
	}
	client.up(t, "eth0", clientAddr.String()+"/24")
	server.up(t, "eth0", serverAddr.String()+"/24")
	return client, server
}

func start(t *testing.T, n *node, cfg Config) *Process {
	t.Helper()
	began := time.Now()
	p, err := Start(t.Context(), cfg, n.namespace())
	if errors.Is(err, ErrNoRedirect) {
		capability.Missing(t, err, "redirect")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started in %v, redirect by %s", time.Since(began).Round(time.Millisecond), p.Redirect())
	t.Cleanup(func() { p.Close() })
	return p
}

func stop(t *testing.T, p *Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != text {
		t.Fatalf("echo is %q, want %q", got, text)
	}
}

func TestOutboundTCPGoesThroughTheSidecar(t *testing.T) {
	client, server := pair(t)
	peers := server.echo(t, service)
	p := start(t, client, Config{})

	conn := client.dial(t, service)
	if got := addrPort(conn.RemoteAddr()); got != service {
		t.Errorf("the application is connected to %s, want %s", got, service)
	}
	app := addrPort(conn.LocalAddr())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := p.AwaitConnection(ctx, app)
	if err != nil {
		t.Fatal(err)
	}
	if c.OriginalDestination != service || c.UpstreamRemote != service {
		t.Errorf("destination %s, upstream %s; want %s", c.OriginalDestination, c.UpstreamRemote, service)
	}
	if want := netip.MustParseAddrPort("127.0.0.1:15001"); c.DownstreamLocal != want {
		t.Errorf("redirected to %s, want %s", c.DownstreamLocal, want)
	}
	if peer := <-peers; peer != c.UpstreamLocal || peer == app {
		t.Errorf("the server sees %s; upstream is %s, the application %s", peer, c.UpstreamLocal, app)
	}
	if c.Accepted == 0 || c.Connected < c.Accepted {
		t.Errorf("accepted at %d, connected at %d", c.Accepted, c.Connected)
	}
	say(t, conn, "hello")
	conn.Close()
	stop(t, p)

	log := p.AccessLog()
	if len(log) != 1 {
		t.Fatalf("%d entries, want 1", len(log))
	}
	t.Log(log[0])
	if e := log[0]; e.BytesReceived != 5 || e.BytesSent != 5 || e.Flags != "" || e.Closed < e.Connected {
		t.Errorf("entry %+v", e)
	}
	want := `"-" 5 5 ` + fmt.Sprint(log[0].Duration().Milliseconds()) +
		` - "-" "-" "-" "-" "10.9.0.2:8443" PassthroughCluster ` + c.UpstreamLocal.String() +
		` 10.9.0.2:8443 ` + app.String() + " - -"
	if !strings.HasSuffix(log[0].String(), want) {
		t.Errorf("access log\n%s\nwant …%s", log[0], want)
	}
	if s := p.Stats(); s["tcp.passthrough.downstream_cx_total"] != 1 || s["cluster.PassthroughCluster.upstream_cx_tx_bytes_total"] != 5 {
		t.Errorf("stats after the end:\n%s", s)
	}

	// The redirect is gone: the server sees the application itself.
	direct := client.dial(t, service)
	say(t, direct, "direct")
	if peer := <-peers; peer != addrPort(direct.LocalAddr()) {
		t.Errorf("after Stop the server sees %s, want the application", peer)
	}
}

// What is for the namespace itself is not redirected.
func TestLoopbackIsLeftAlone(t *testing.T) {
	client, _ := pair(t)
	own := []netip.AddrPort{
		netip.MustParseAddrPort("127.0.0.1:8080"), netip.AddrPortFrom(clientAddr, 8081),
	}
	p := start(t, client, Config{})
	for _, addr := range own {
		peers := client.echo(t, addr)
		conn := client.dial(t, addr)
		say(t, conn, "local")
		if peer := <-peers; peer != addrPort(conn.LocalAddr()) {
			t.Errorf("%s sees %s, want the application", addr, peer)
		}
	}
	if n := p.Stats()["tcp.passthrough.downstream_cx_total"]; n != 0 {
		t.Errorf("the sidecar took %d connections", n)
	}
}

// A connection to the sidecar's own port leads nowhere, rather than to itself.
func TestLoopIsRefused(t *testing.T) {
	client, _ := pair(t)
	p := start(t, client, Config{})
	for _, host := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), clientAddr} {
		conn := client.dial(t, netip.AddrPortFrom(host, 15001))
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d bytes, error %v; want an end", n, err)
		}
	}
	stop(t, p)
	log := p.AccessLog()
	if len(log) != 2 {
		t.Fatalf("%d entries, want 2: %v", len(log), log)
	}
	for _, e := range log {
		if e.Flags != NoHealthyUpstream || e.Cluster != "BlackHoleCluster" {
			t.Errorf("entry %s", e)
		}
	}
}

func TestRefusedUpstream(t *testing.T) {
	client, _ := pair(t)
	p := start(t, client, Config{})
	conn := client.dial(t, service) // nothing listens there
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, error %v; want an end", n, err)
	}
	_, err := p.AwaitConnection(t.Context(), addrPort(conn.LocalAddr()))
	var refused *ConnectError
	if !errors.As(err, &refused) || refused.Entry.Flags != UpstreamConnectFailure {
		t.Errorf("error %v, want a ConnectError with %s", err, UpstreamConnectFailure)
	}
}

func TestSidecarRunsAsItsUser(t *testing.T) {
	client, _ := pair(t)
	p := start(t, client, Config{UID: 4242})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Uid:\t4242\t4242\t4242\t4242\n", "Gid:\t4242\t4242\t4242\t4242\n", "Groups:\t \n",
		"CapEff:\t0000000000000000\n", "CapPrm:\t0000000000000000\n",
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("/proc/PID/status lacks %q:\n%s", want, status)
		}
	}
	// Files: as many as it asks for, or as root may have here (a container may
	// keep root from raising the hard limit).
	want := uint64(wantedFiles)
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	if raised := (unix.Rlimit{Cur: own.Cur, Max: wantedFiles}); own.Max < wantedFiles &&
		unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) != nil {
		want = own.Max
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	_, files, _ := strings.Cut(string(limits), "Max open files")
	if soft, err := strconv.ParseUint(strings.Fields(files)[0], 10, 64); err != nil || soft < want {
		t.Errorf("soft limit of open files is %d (%v), want %d", soft, err, want)
	}
}

func TestPortTaken(t *testing.T) {
	client, server := pair(t)
	client.echo(t, netip.MustParseAddrPort("0.0.0.0:15001"))
	peers := server.echo(t, service)
	_, err := Start(t.Context(), Config{}, client.namespace())
	if !errors.Is(err, ErrPortTaken) || !strings.Contains(err.Error(), "15001") {
		t.Errorf("error %v, want ErrPortTaken and the port", err)
	}
	t.Log(err)
	// Nothing is left of the redirect.
	conn := client.dial(t, service)
	if peer := <-peers; peer != addrPort(conn.LocalAddr()) {
		t.Errorf("the server sees %s, want the application", peer)
	}
}

func TestSecondSidecarIsRefused(t *testing.T) {
	client, server := pair(t)
	peers := server.echo(t, service)
	p := start(t, client, Config{})
	_, err := Start(t.Context(), Config{Port: 15002, UID: 1338}, client.namespace())
	if !errors.Is(err, ErrRedirectExists) {
		t.Errorf("error %v, want ErrRedirectExists", err)
	}
	// The first one goes on.
	conn := client.dial(t, service)
	say(t, conn, "still here")
	c, err := p.AwaitConnection(t.Context(), addrPort(conn.LocalAddr()))
	if peer := <-peers; err != nil || peer != c.UpstreamLocal {
		t.Errorf("the server sees %s, upstream is %+v, %v", peer, c, err)
	}
}

// One program is run beside the sidecar where nf_tables cannot redirect, none
// where it can; and removing takes away nothing that was there before.
func TestRedirectLeavesOthersAlone(t *testing.T) {
	client, _ := pair(t)
	var ran []string
	ns := client.namespace()
	inner := ns.Start
	ns.Start = func(cmd *exec.Cmd) error {
		ran = append(ran, filepath.Base(cmd.Args[0]))
		return inner(cmd)
	}
	const rule = "OUTPUT -p tcp -d 192.0.2.1 -j RETURN"
	foreign := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "foreign"}
	machinery, want := Nftables, []string{"pmtulab:sidecar"}
	if err := client.do(func() error { return addNATTable(foreign) }); err != nil {
		t.Logf("no nftables NAT here: %v", err)
		machinery, want = IptablesLegacy, append(want, iptablesRestore)
		if err := restore(t.Context(), ns, "*nat\n-A "+rule+"\nCOMMIT\n"); err != nil {
			t.Fatal(err)
		}
	}

	ran = nil
	p, err := Start(t.Context(), Config{}, ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if p.Redirect() != machinery || !slices.Equal(ran, want) {
		t.Errorf("redirect by %s, ran %q; want %s, %q", p.Redirect(), ran, machinery, want)
	}
	stop(t, p)

	if machinery == IptablesLegacy {
		// Only what is there can be deleted.
		if err := restore(t.Context(), ns, "*nat\n-D "+rule+"\nCOMMIT\n"); err != nil {
			t.Errorf("the foreign rule is gone: %v", err)
		}
		// A chain of the same name can be made only when ours is gone.
		if err := restore(t.Context(), ns, "*nat\n-N "+iptablesChain+"\nCOMMIT\n"); err != nil {
			t.Errorf("the sidecar's chain is left: %v", err)
		}
		return
	}
	var left []string
	if err := client.do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := conn.ListTables()
		for _, table := range tables {
			left = append(left, table.Name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(left, []string{foreign.Name}) {
		t.Errorf("tables left: %q, want %q", left, foreign.Name)
	}
}

// addNATTable makes table with a NAT chain that does nothing.
func addNATTable(table *nftables.Table) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.AddTable(table)
	conn.AddChain(&nftables.Chain{
		Table: table, Name: "out", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	return conn.Flush()
}

func TestStopDrains(t *testing.T) {
	client, server := pair(t)
	server.echo(t, service)
	p := start(t, client, Config{DrainTimeout: time.Minute})
	conn := client.dial(t, service)
	say(t, conn, "before")

	stopped := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() { stopped <- p.Stop(ctx) }()
	// New connections are refused; the open one goes on.
	if err := wait.Until(ctx, "the sidecar to take no more", 5*time.Millisecond, func() error {
		c, err := client.tryDial(service)
		if errors.Is(err, unix.ECONNREFUSED) {
			return nil
		}
		if err == nil {
			c.Close()
			err = errors.New("it was taken")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	say(t, conn, "while draining")
	select {
	case err := <-stopped:
		t.Fatalf("stopped (%v) while a connection was open", err)
	default:
	}
	conn.Close()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(p.AccessLog(), func(e AccessLogEntry) bool { return e.BytesSent == 20 }); i < 0 {
		t.Errorf("no entry for the drained connection: %v", p.AccessLog())
	}
	if err := p.Stop(ctx); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

func TestDrainHasAnEnd(t *testing.T) {
	client, server := pair(t)
	server.echo(t, service)
	p := start(t, client, Config{DrainTimeout: 50 * time.Millisecond})
	conn := client.dial(t, service)
	say(t, conn, "before")
	stop(t, p)
	if n := len(p.AccessLog()); n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
	if a := p.Stats()["tcp.passthrough.downstream_cx_active"]; a != 0 {
		t.Errorf("%d connections still active", a)
	}
}

// A sidecar that does not answer is killed, and its redirect removed.
func TestStopKills(t *testing.T) {
	client, server := pair(t)
	peers := server.echo(t, service)
	p := start(t, client, Config{})
	if err := syscall.Kill(p.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop: %v, want the deadline", err)
	}
	conn := client.dial(t, service)
	if peer := <-peers; peer != addrPort(conn.LocalAddr()) {
		t.Errorf("the server sees %s, want the application", peer)
	}
}

// The sidecar ends with its parent even if that had no chance to say so: all
// that is left then is that the lifeline closes.
func TestSidecarEndsWithItsParent(t *testing.T) {
	client, _ := pair(t)
	p := start(t, client, Config{DrainTimeout: time.Hour})
	p.lifeline.Close()
	select {
	case <-p.Ended():
	case <-time.After(5 * time.Second):
		t.Fatal("the sidecar goes on")
	}
	if err := syscall.Kill(p.PID(), 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("signal 0: %v, want ESRCH", err)
	}
	p.Close()
}

func TestSidecarThatDies(t *testing.T) {
	client, _ := pair(t)
	p := start(t, client, Config{})
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Ended()
	_, err := p.AwaitConnection(t.Context(), netip.AddrPortFrom(clientAddr, 1))
	if !errors.Is(err, ErrEnded) {
		t.Errorf("error %v, want ErrEnded", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := p.Stop(ctx); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("Stop: %v, want the signal", err)
	}
}
