package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pmtulab/pmtulab/lab/guest"
	"github.com/pmtulab/pmtulab/lab/kernel"
	"github.com/pmtulab/pmtulab/lab/record"
)

// kernelFlags say which kernel a guest boots, and how.
type kernelFlags struct {
	ref, accel string
}

func (f *kernelFlags) add(c *cobra.Command, ref string) {
	c.Flags().StringVar(&f.ref, "kernel", ref, "`KERNEL` to use: "+kernelHelp)
	complete(c, "kernel", completeKernel)
	c.Flags().StringVar(&f.accel, "accel", "auto", "`ACCELERATOR` of QEMU: "+either(words(accelerators()))+"; auto is kvm where a boot has proven it, else tcg")
	complete(c, "accel", fixed(accelerators()...))
}

const kernelHelp = "6.12, uml/6.1, a .deb, an image … (see: pmtulab kernels)"

// accelerators are the values of --accel.
func accelerators() []cobra.Completion {
	return []cobra.Completion{
		cobra.CompletionWithDesc("auto", "kvm where a boot has proven it, else tcg"),
		cobra.CompletionWithDesc(guest.KVM, "the processor; an error where it does not work"),
		cobra.CompletionWithDesc(guest.TCG, "translation; works everywhere"),
	}
}

// find finds the kernel, and fetches it when it is not there. It must have the
// features.
func (f kernelFlags) find(ctx context.Context, shown *progress, features ...kernel.Feature) (guest.Kernel, error) {
	accelerator := f.accel
	switch accelerator {
	case "auto":
		accelerator = guest.AutoAccelerator
	case guest.KVM, guest.TCG:
	default:
		return guest.Kernel{}, usage(fmt.Errorf("--accel %s: must be %s", f.accel, either(words(accelerators()))))
	}
	k, err := findKernel(ctx, kernel.Cache{Progress: shown.pulling()}, f.ref, features...)
	shown.clear()
	if err != nil {
		return k, kernelError(err)
	}
	if k.Machine != guest.QEMU && accelerator == guest.KVM {
		return k, usage(fmt.Errorf("--accel kvm: --kernel %s is User-Mode Linux, which has no accelerator", f.ref))
	}
	k.Accelerator = accelerator
	return k, nil
}

// findKernel finds the kernel of a reference and checks what it has. For "uml"
// that of this system comes first.
func findKernel(ctx context.Context, cache kernel.Cache, ref string, features ...kernel.Feature) (guest.Kernel, error) {
	var installed error
	if ref == "uml" {
		k, err := guest.FindUML()
		if err == nil {
			return k, nil
		}
		installed = err
	}
	k, err := cache.Resolve(ctx, ref)
	if err != nil {
		return guest.Kernel{}, errors.Join(installed, err)
	}
	return bootable(k), k.Check(features...)
}

// bootable is k for a guest.
func bootable(k kernel.Kernel) guest.Kernel {
	out := guest.Kernel{Machine: guest.QEMU, Release: k.Release, Image: k.Image, ELF: k.ELF, Modules: k.Modules, Libs: k.Libs}
	if k.UML {
		out.Machine = guest.UML
	}
	return out
}

// installedUML is User-Mode Linux without the network: that of this system, or
// else the newest that is cached.
func installedUML() (guest.Kernel, error) {
	return findKernel(context.Background(), kernel.Cache{Offline: true}, "uml", kernel.LabFeatures()...)
}

// newestCached is the newest kernel for QEMU that is cached.
func newestCached() (guest.Kernel, error) {
	return findKernel(context.Background(), kernel.Cache{Offline: true}, "newest", kernel.LabFeatures()...)
}

// kernelError tells what the user wrote wrong from what is missing here and
// from what went wrong.
func kernelError(err error) error {
	var lacks *kernel.LackError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, guest.ErrNoUML), errors.Is(err, kernel.ErrNoApt), errors.As(err, &lacks):
		return &exitError{record.ExitUnsupported, err}
	case errors.Is(err, kernel.ErrInput):
		return usage(err)
	}
	return &exitError{record.ExitError, err}
}
