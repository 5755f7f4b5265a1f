package pcapng

import "encoding/binary"

// Message makes a packet of link type UpperPDU out of one line of text. A
// packet needs a protocol, and none of Wireshark's is for plain text; that of
// syslog shows the line as it is, in the Info column and as the field
// syslog.msg, where JSON would show its own name and plain text nothing.
func Message(text string) []byte {
	const tagEnd, tagDissector = 0, 12 // wireshark/exported_pdu_tlvs.h
	const dissector = "syslog\x00\x00" // filled up to 32 bits
	b := binary.BigEndian.AppendUint16(nil, tagDissector)
	b = binary.BigEndian.AppendUint16(b, uint16(len(dissector)))
	b = append(b, dissector...)
	b = binary.BigEndian.AppendUint32(b, tagEnd)
	return append(b, text...)
}
