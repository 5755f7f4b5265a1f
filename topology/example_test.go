package topology_test

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/pmtulab/pmtulab/topology"
)

func ExampleParse() {
	_, err := topology.Parse("lab.yaml", []byte(`name: lab
nodes:
  - name: client
  - name: server
links:
  - ends:
      - {node: client, mtu: 9001000, addresses: [10.0.0.1/24]}
      - {node: sever, adresses: [10.0.0.2/24]}
`))
	fmt.Println(err)
	// Output:
	// lab.yaml:7:29: eth0 of client: MTU 9001000 is out of range; allowed: 68–65535
	// lab.yaml:8:16: link client–sever: there is no node "sever"; did you mean "server"? allowed: client, server
	// lab.yaml:8:23: unknown key "adresses"; did you mean "addresses"? allowed: node, name, mtu, mac, addresses, offloads
}

func ExampleSpec_Draw() {
	data, err := os.ReadFile("testdata/report.yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	spec, err := topology.Parse("report.yaml", data)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, line := range spec.Draw() {
		fmt.Println(line)
	}
	// Output:
	// ┌─ client ─────────────────────────────┐  lan
	// │ eth0     10.0.0.1/24        mtu 1500 ├──┐
	// │ sidecar  :15001, uid 1337            │  │
	// └──────────────────────────────────────┘  │
	// ┌─ lb: load balancer ──────────────────┐  │
	// │ eth0     10.0.0.5/24        mtu 1500 ├──┤
	// │ lo       10.0.0.2/32 VIP             │  │
	// │ service  10.0.0.2:443 tcp, rr        │  │
	// │          → 10.0.0.6 by tunnel (IPIP) │  │
	// └──────────────────────────────────────┘  │
	// ┌─ real: real server ──────────────────┐  │
	// │ eth0     10.0.0.6/24        mtu 1500 ├──┘
	// │ ipip0    10.0.0.2/32 VIP        ipip │
	// └──────────────────────────────────────┘
}

func ExampleSpec_Validate() {
	spec := topology.Spec{
		Name:  "pair",
		Nodes: []topology.Node{{Name: "a"}, {Name: "b"}},
		Links: []topology.Link{{Ends: [2]topology.End{
			{Node: "a", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
			{Node: "b", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
		}}},
	}
	fmt.Println(spec.Validate())
	// Output:
	// $.links[0].ends[1].addresses[0]: link a–b: eth0 of a and eth0 of b have the same address 10.0.0.1; to hold a VIP without answering for it on the wire, write it under loopback or a tunnel
}

func ExampleSpec_YAML() {
	spec := topology.Spec{
		Name:  "pair",
		Nodes: []topology.Node{{Name: "a", Sysctls: map[string]string{"net.ipv4.tcp_mtu_probing": "1"}}, {Name: "b"}},
		Links: []topology.Link{{Ends: [2]topology.End{{Node: "a", MTU: 1400}, {Node: "b"}}}},
	}
	text, err := spec.YAML()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(text))
	// Output:
	// name: pair
	// nodes:
	//   - {name: a, sysctls: {net.ipv4.tcp_mtu_probing: 1}}
	//   - {name: b}
	// links:
	//   - ends:
	//       - {node: a, mtu: 1400}
	//       - {node: b}
}
