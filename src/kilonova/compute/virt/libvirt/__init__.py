"""Real guests: QEMU, TCG or KVM, driven through libvirt's system or session daemon."""
