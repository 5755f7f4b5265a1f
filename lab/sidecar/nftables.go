//go:build linux

// The redirect with nf_tables.

package sidecar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// nftTable is the table that holds all of the redirect, and nothing else:
//
//	table ip pmtulab_sidecar {
//		chain output {
//			type nat hook output priority dstnat; policy accept;
//			oifname "lo" return
//			meta skuid 1337 return
//			ip daddr 127.0.0.0/8 return
//			meta l4proto tcp redirect to :15001
//		}
//	}
const nftTable = "pmtulab_sidecar"

// nftablesModules are those that the kernel loads for the table.
func nftablesModules() []string {
	return []string{"nfnetlink", "nf_tables", "nft_chain_nat", "nft_redir"}
}

// installNftables makes the table in the namespace of the calling thread, in
// one transaction: it is there as a whole or not at all.
func (r *redirect) installNftables() (err error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("open netfilter netlink: %w", err)
	}
	defer func() { err = errors.Join(err, conn.CloseLasting()) }()
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return fmt.Errorf("list nftables tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == nftTable {
			return fmt.Errorf("table ip %s: %w", nftTable, ErrRedirectExists)
		}
	}

	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: nftTable})
	chain := conn.AddChain(&nftables.Chain{
		Table:    table,
		Name:     "output",
		Type:     nftables.ChainTypeNAT,
		Hooknum:  nftables.ChainHookOutput,
		Priority: nftables.ChainPriorityNATDest,
	})
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	for _, exprs := range [][]expr.Any{
		{
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
			equal([]byte("lo\x00")),
			&expr.Verdict{Kind: expr.VerdictReturn},
		},
		{
			&expr.Meta{Key: expr.MetaKeySKUID, Register: 1},
			equal(binary.NativeEndian.AppendUint32(nil, uint32(r.uid))),
			&expr.Verdict{Kind: expr.VerdictReturn},
		},
		{
			// The destination is at offset 16 of the IPv4 header; its first
			// byte is the whole of a prefix of eight bits.
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 1},
			equal(loopback.Addr().AsSlice()[:1]),
			&expr.Verdict{Kind: expr.VerdictReturn},
		},
		{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			equal([]byte{unix.IPPROTO_TCP}),
			&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, r.port)},
			&expr.Redir{RegisterProtoMin: 1},
		},
	} {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("add table ip %s: %w", nftTable, err)
	}
	return nil
}

// equal goes on with the rule when register 1 holds data.
func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}
}

// removeNftables deletes the table, with all that is in it, from the namespace
// of the calling thread.
func removeNftables() (err error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("open netfilter netlink: %w", err)
	}
	defer func() { err = errors.Join(err, conn.CloseLasting()) }()
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: nftTable})
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete table ip %s: %w", nftTable, err)
	}
	return nil
}
