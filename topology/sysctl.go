// Keys of sysctls, written with dots or with slashes.

package topology

import (
	"errors"
	"fmt"
	"strings"
)

// SysctlPath is the path of a sysctl below /proc/sys. As in sysctl(8), the
// first separator decides: after a dot, dots separate and a slash stands for a
// dot within a name (net.ipv4.conf.eth0/100.rp_filter); after a slash, slashes
// separate. The error says what is wrong with the key. Only net sysctls belong
// to a namespace; any other would change the whole machine and is an error.
func SysctlPath(key string) (string, error) {
	path := key
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		path = strings.NewReplacer(".", "/", "/", ".").Replace(key)
	}
	if strings.Trim(key, nameCharacters+"./") != "" {
		return "", errors.New("only letters, digits, dots, slashes, dashes and underscores are allowed")
	}
	parts := strings.Split(path, "/")
	for _, part := range parts {
		if part == "" || part == "." || part == ".." {
			return "", fmt.Errorf("%q is not a name between two separators", part)
		}
	}
	if parts[0] != "net" || len(parts) < 3 {
		return "", errors.New("only sysctls below net belong to a node")
	}
	return path, nil
}

// SysctlInterface is the interface that a sysctl of this path is about, all and
// default included, or "" when it is about none.
func SysctlInterface(path string) string {
	parts := strings.Split(path, "/")
	if len(parts) == 5 && (parts[2] == "conf" || parts[2] == "neigh") {
		return parts[3]
	}
	return ""
}
