// QMP, the protocol by which a running QEMU is controlled: JSON objects on a
// stream (docs/interop/qmp-spec.txt of QEMU).

package guest

import (
	"encoding/json"
	"fmt"
	"io"
)

// monitor is the client's end of a QMP connection.
type monitor struct {
	conn io.ReadWriter
	d    *json.Decoder
}

// reply is any object that QEMU sends: the greeting, a reply or an event.
type reply struct {
	QMP    json.RawMessage `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// connect reads the greeting and leaves the negotiation of capabilities.
func (m *monitor) connect() error {
	m.d = json.NewDecoder(m.conn)
	var greeting reply
	if err := m.d.Decode(&greeting); err != nil {
		return fmt.Errorf("read the greeting of QEMU's monitor: %w", err)
	}
	if greeting.QMP == nil {
		return fmt.Errorf("read the greeting of QEMU's monitor: it is none")
	}
	return m.execute("qmp_capabilities", nil)
}

// execute runs one command and waits for its reply; events are passed over.
func (m *monitor) execute(command string, arguments map[string]string) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	b, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("ask QEMU for %s: %w", command, err)
	}
	if _, err := m.conn.Write(b); err != nil {
		return fmt.Errorf("ask QEMU for %s: %w", command, err)
	}
	for {
		var r reply
		if err := m.d.Decode(&r); err != nil {
			return fmt.Errorf("read QEMU's reply to %s: %w", command, err)
		}
		switch {
		case r.Error != nil:
			return fmt.Errorf("QEMU refuses %s: %s: %s", command, r.Error.Class, r.Error.Desc)
		case r.Return != nil:
			return nil
		}
	}
}
