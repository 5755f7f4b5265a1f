package topology

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

// reportSpec is testdata/report.yaml.
func reportSpec(t testing.TB) Spec {
	t.Helper()
	spec, err := Parse("report.yaml", read(t, "testdata/report.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// Each change of a good Spec gives the problem at the path, and no other.
func TestValidateInGo(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	tests := map[string]struct {
		change func(*Spec)
		path   string
	}{
		"topology without name": {func(s *Spec) { s.Name = "" }, "$.name"},
		"invalid address":       {func(s *Spec) { s.Segments[0].Ports[0].Addresses = []netip.Prefix{{}} }, "$.segments[0].ports[0].addresses[0]"},
		"port without node":     {func(s *Spec) { s.Nodes[0].Sidecar = nil; s.Segments[0].Ports[0].Node = "" }, "$.segments[0].ports[0].node"},
		"real server unset":     {func(s *Spec) { s.Nodes[1].Services[0].RealServers[0].Address = netip.Addr{} }, "$.nodes[1].services[0].real-servers[0].address"},
		"forwarding unset":      {func(s *Spec) { s.Nodes[1].Services[0].RealServers[0].Forwarding = "" }, "$.nodes[1].services[0].real-servers[0].forwarding"},
		"weight out of range":   {func(s *Spec) { s.Nodes[1].Services[0].RealServers[0].Weight = new(65536) }, "$.nodes[1].services[0].real-servers[0].weight"},
		"real server elsewhere": {func(s *Spec) { s.Nodes[1].Services[0].RealServers[0].Address = addr("10.0.0.9") }, "$.nodes[1].services[0].real-servers[0].address"},
		"VIP on eth0 of real": {func(s *Spec) {
			s.Nodes[2].Tunnels[0].Addresses = nil
			s.Segments[0].Ports[2].Addresses = append(s.Segments[0].Ports[2].Addresses, prefix("10.0.0.2/32"))
		}, "$.nodes[1].services[0].real-servers[0].address"},
		"sysctl":                 {func(s *Spec) { s.Nodes[2].Sysctls["net.ipv4.conf.ipip1.rp_filter"] = "0" }, "$.nodes[2].sysctls['net.ipv4.conf.ipip1.rp_filter']"},
		"IPv6 address":           {func(s *Spec) { s.Nodes[0].Loopback = []netip.Prefix{prefix("2001:db8::1/128")} }, "$.nodes[0].loopback[0]"},
		"tunnel to elsewhere":    {func(s *Spec) { s.Nodes[2].Tunnels[0].Remote = addr("10.0.0.1") }, "$.nodes[1].services[0].real-servers[0].forwarding"},
		"tunnel of other local":  {func(s *Spec) { s.Nodes[2].Tunnels[0].Local = addr("10.0.0.2") }, "$.nodes[1].services[0].real-servers[0].forwarding"},
		"two names of interface": {func(s *Spec) { s.Nodes[2].Tunnels[0].Name = "eth0"; s.Segments[0].Ports[2].Name = "eth0" }, "$.segments[0].ports[2].name"},
		"tunnel without name":    {func(s *Spec) { s.Nodes[2].Tunnels[0].Name = "" }, "$.nodes[2].tunnels[0].name"},
		"tunnel named by a path": {func(s *Spec) { s.Nodes[2].Tunnels[0].Name = "a/b" }, "$.nodes[2].tunnels[0].name"},
		"tunnel holds a subnet": {func(s *Spec) {
			s.Nodes[2].Tunnels[0].Addresses = append(s.Nodes[2].Tunnels[0].Addresses, prefix("10.3.0.0/24"))
		}, "$.nodes[2].tunnels[0].addresses[1]"},
		"bridge with 1,025 ports": {func(s *Spec) {
			s.Segments[0].Ports = append(s.Segments[0].Ports, slices.Repeat([]End{{Node: "client"}}, 1022)...)
		}, "$.segments[0].ports"},
		"too many nodes": {func(s *Spec) {
			for i := range maxNodes {
				s.Nodes = append(s.Nodes, Node{Name: "n" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))})
			}
		}, "$.nodes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := reportSpec(t)
			test.change(&spec)
			problems, _ := errors.AsType[Problems](spec.Validate())
			if len(problems) != 1 || problems[0].Path != test.path || problems[0].Line != 0 {
				t.Errorf("Validate = %v, want one problem at %s", problems, test.path)
			}
		})
	}
}

// What looks odd and is right.
func TestValidateAccepts(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	tests := map[string]func(*Spec){
		"as it is": func(*Spec) {},
		"VIP on eth0 of lb": func(s *Spec) {
			s.Nodes[1].Loopback = nil
			s.Segments[0].Ports[1].Addresses = append(s.Segments[0].Ports[1].Addresses, prefix("10.0.0.2/32"))
		},
		"weight 0": func(s *Spec) { s.Nodes[1].Services[0].RealServers[0].Weight = new(0) },
		"tunnel with both ends": func(s *Spec) {
			s.Nodes[2].Tunnels[0].Local, s.Nodes[2].Tunnels[0].Remote = addr("10.0.0.6"), addr("10.0.0.5")
		},
		"VIP on lo of real": func(s *Spec) {
			s.Nodes[2].Loopback, s.Nodes[2].Tunnels[0].Addresses = s.Nodes[2].Tunnels[0].Addresses, nil
		},
		"direct route": func(s *Spec) { s.Nodes[1].Services[0].RealServers[0].Forwarding = DirectRoute },
		"masquerade to other port": func(s *Spec) {
			s.Nodes[1].Services[0].RealServers[0] = RealServerEntry{Address: addr("10.0.0.6"), Port: 8443, Forwarding: Masquerade}
		},
		"real server on lb": func(s *Spec) { s.Nodes[1].Services[0].RealServers[0].Address = addr("10.0.0.5") },
		"next hop by earlier route": func(s *Spec) {
			s.Nodes[0].Routes = []Route{{To: Destination{prefix("172.16.0.0/16")}, Dev: "eth0"}, {To: Default(), Via: addr("172.16.0.1")}}
		},
		"same route, two metrics": func(s *Spec) {
			s.Nodes[0].Routes = []Route{{To: Default(), Via: addr("10.0.0.5")}, {To: Default(), Via: addr("10.0.0.6"), Priority: 10}}
		},
		"loopback block":   func(s *Spec) { s.Nodes[0].Loopback = []netip.Prefix{prefix("127.0.0.2/8")} },
		"sysctl of tunnel": func(s *Spec) { s.Nodes[2].Sysctls["net/ipv4/conf/ipip0/rp_filter"] = "0" },
		"uneven MTUs":      func(s *Spec) { s.Segments[0].Ports[0].MTU, s.Segments[0].Ports[2].MTU = 9000, 68 },
		// veth takes it; that it drops what is too long is worth an experiment.
		"uneven MTUs of a link": func(s *Spec) {
			s.Links = []Link{{[2]End{{Node: "client", MTU: 9000}, {Node: "real", MTU: 1500}}}}
		},
		"/31 subnet": func(s *Spec) {
			s.Nodes = append(s.Nodes, Node{Name: "far"})
			s.Links = []Link{{[2]End{{Node: "client", Addresses: []netip.Prefix{prefix("192.168.0.0/31")}}, {Node: "far", Addresses: []netip.Prefix{prefix("192.168.0.1/31")}}}}}
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			spec := reportSpec(t)
			change(&spec)
			if err := spec.Validate(); err != nil {
				t.Error(err)
			}
			if err := spec.WithDefaults().Validate(); err != nil {
				t.Errorf("with defaults: %v", err)
			}
			roundTrip(t, spec)
			roundTrip(t, spec.WithDefaults())
		})
	}
}

func TestWithDefaults(t *testing.T) {
	spec := Spec{
		Name: "x",
		Nodes: []Node{
			{Name: "a", Tunnels: []Tunnel{{Name: "eth1"}}, Sidecar: &Sidecar{}, Routes: []Route{{To: Default()}}},
			{Name: "b", Services: []VirtualService{{Port: 443, RealServers: []RealServerEntry{{}, {Weight: new(0), Port: 1}}}}},
		},
		Links:    []Link{{[2]End{{Node: "a"}, {Node: "b", Name: "eth0"}}}},
		Segments: []Segment{{Name: "lan", Ports: []End{{Node: "a"}, {Node: "b"}, {Node: "b", MTU: 68, MAC: "02:00:00:00:00:01"}}}},
	}
	before := spec.clone()
	got := spec.WithDefaults()
	var names, macs []string
	for _, end := range got.ends() {
		names = append(names, end.Node+"/"+end.Name)
		macs = append(macs, end.MAC)
	}
	// eth1 of a is its tunnel, eth0 of b is written.
	if want := []string{"a/eth0", "b/eth0", "a/eth2", "b/eth1", "b/eth2"}; !slices.Equal(names, want) {
		t.Errorf("names = %v, want %v", names, want)
	}
	if slices.Sort(macs); len(slices.Compact(macs)) != 5 {
		t.Errorf("MACs are not unique: %v", macs)
	}
	if got.Links[0].Ends[0].MTU != 1500 || got.Segments[0].Ports[2].MTU != 68 {
		t.Error("MTU: want 1500 where unset, 68 as written")
	}
	if want := (Sidecar{15001, 1337, 10 * time.Second}); *got.Nodes[0].Sidecar != want {
		t.Errorf("sidecar = %v, want %v", *got.Nodes[0].Sidecar, want)
	}
	if got.Nodes[0].Routes[0].Table != 254 || got.Nodes[0].Tunnels[0].Mode != IPIP {
		t.Error("table or tunnel mode has no default")
	}
	service := got.Nodes[1].Services[0]
	if service.Protocol != "tcp" || service.Scheduler != "rr" {
		t.Errorf("service = %+v", service)
	}
	if first, second := service.RealServers[0], service.RealServers[1]; first.Port != 443 || *first.Weight != 1 || second.Port != 1 || *second.Weight != 0 {
		t.Errorf("real servers = %+v", service.RealServers)
	}
	if again := got.WithDefaults(); !reflect.DeepEqual(got, again) {
		t.Error("a second WithDefaults changes the Spec")
	}
	if !reflect.DeepEqual(spec, before) {
		t.Error("WithDefaults changes its receiver")
	}
}

// A change of the copy must not reach the original, whatever it is deep in.
func TestWithDefaultsSharesNothing(t *testing.T) {
	spec := reportSpec(t).WithDefaults()
	spec.Nodes[0].Routes = []Route{{To: Default(), Via: netip.MustParseAddr("10.0.0.5"), Table: 254}}
	spec.Links = []Link{{[2]End{{Node: "client", Name: "x", MTU: 100, MAC: "02:00:00:00:00:01", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}}}}
	if shared := sharedMemory(reflect.ValueOf(spec), reflect.ValueOf(spec.WithDefaults()), "spec"); shared != "" {
		t.Errorf("%s is shared with the copy", shared)
	}
}

// sharedMemory is the name of the first slice, map or pointer that a and b share.
func sharedMemory(a, b reflect.Value, name string) string {
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if !a.IsNil() && a.Pointer() == b.Pointer() {
			return name
		}
	}
	switch a.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range min(a.Len(), b.Len()) {
			if shared := sharedMemory(a.Index(i), b.Index(i), name+"[]"); shared != "" {
				return shared
			}
		}
	case reflect.Struct:
		for i := range a.NumField() {
			if !a.Type().Field(i).IsExported() {
				continue // netip values share what never changes
			}
			if shared := sharedMemory(a.Field(i), b.Field(i), name+"."+a.Type().Field(i).Name); shared != "" {
				return shared
			}
		}
	}
	return ""
}

func TestDefaultMAC(t *testing.T) {
	// Captures of different runs are compared by these; they must not change.
	if got, want := defaultMAC("report", "client", "eth0"), "2e:d9:a7:36:ea:8f"; got != want {
		t.Errorf("defaultMAC = %s, want %s", got, want)
	}
}

func TestSysctlPath(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.tcp_mtu_probing":           "net/ipv4/tcp_mtu_probing",
		"net/ipv4/tcp_mtu_probing":           "net/ipv4/tcp_mtu_probing",
		"net.ipv4.conf.eth0/100.rp_filter":   "net/ipv4/conf/eth0.100/rp_filter",
		"net/ipv4/conf/eth0.100/rp_filter":   "net/ipv4/conf/eth0.100/rp_filter",
		"net.ipv4":                           "",
		"vm.swappiness":                      "",
		"net/ipv4/../../vm/swappiness":       "",
		"net.ipv4.//.x":                      "",
		"":                                   "",
		"net.ipv4.conf.all.rp_filter\n":      "",
		"/net/ipv4/ip_forward":               "",
		"net.ipv4.neigh.default.gc_thresh1.": "",
	} {
		got, err := SysctlPath(key)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("SysctlPath(%q) = %q, %v, want %q", key, got, err, want)
		}
	}
}
