package guest

// WithKVM is k with the device of KVM elsewhere than on most machines.
func (k Kernel) WithKVM(device string) Kernel {
	k.kvm = device
	return k
}
