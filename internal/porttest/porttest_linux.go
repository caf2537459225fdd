package porttest

import "syscall"

// reserve binds a socket to a port and does not listen. Linux then gives the port to no other socket that is bound to
// any port, and lets one listen that is bound to this port and, as those of servers do, has SO_REUSEADDR.
func reserve() (port int, release func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	release = func() { _ = syscall.Close(fd) }
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var at syscall.Sockaddr
	if err == nil {
		at, err = syscall.Getsockname(fd)
	}
	if err != nil {
		release()
		return 0, nil, err
	}
	return at.(*syscall.SockaddrInet4).Port, release, nil
}
