package adminapi

// The inputs of the operations, for programs that call them.
type (
	// ByID and ByKID name one thing.
	ByID  = byID
	ByKID = byKID
	// Change is a change of one thing, and Creation a thing to make.
	Change[T any]   = change[T]
	Creation[T any] = creation[T]

	ClientListing  = clientListing
	GrantListing   = grantListing
	SessionListing = sessionListing
	EventListing   = eventListing

	NewGroup     = newGroup
	ByName       = byName
	GroupMembers = groupMembers
	Membership   = membership

	Overlap         = overlap
	NewInitialToken = newInitialToken
	NewPassword     = newPassword
	Rotation        = rotation
)
