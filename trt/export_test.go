package trt

// ForgottenInTests is the Options.Forgotten of tests outside the package: TestMain fails the run for
// what it is told.
func ForgottenInTests(f Forgotten) { forgotten.add(f) }
