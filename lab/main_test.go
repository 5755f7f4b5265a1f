//go:build linux

package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/pmtulab/pmtulab/lab/role"
)

// The test binary plays these roles for tests of processes.
const (
	// roleWait prints its network namespace and waits for the end of its
	// standard input, or for ever when that is a terminal or /dev/null.
	roleWait = "test-wait"
	// roleParent brings a lab up, starts roleWait in it with the same standard
	// output and waits to be killed.
	roleParent = "test-parent"
	// roleUp brings a lab up and prints the error.
	roleUp = "test-up"
)

func TestMain(m *testing.M) {
	Main(
		role.Role{Name: roleWait, Main: func([]string) int {
			inode, err := os.Readlink("/proc/self/ns/net")
			fmt.Println(inode, err)
			_, _ = io.Copy(io.Discard, os.Stdin)
			return 0
		}},
		role.Role{Name: roleParent, Main: func([]string) int {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			l, err := Up(ctx, report(false))
			if err != nil {
				fmt.Println(err)
				return 1
			}
			child := role.Command(ctx, roleWait)
			child.Stdin, child.Stdout = os.Stdin, os.Stdout
			if err := l.Node("client").Start(child); err != nil {
				fmt.Println(err)
				return 1
			}
			_ = child.Wait()
			return 0
		}},
		role.Role{Name: roleUp, Main: func([]string) int {
			_, err := Up(context.Background(), report(false))
			fmt.Printf("%v %T\n", err, err)
			return 0
		}},
	)
	os.Exit(m.Run())
}
