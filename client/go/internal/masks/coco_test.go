package masks

import "testing"

func FuzzDecodeCOCORLE(f *testing.F) {
	fuzz(f, DecodeCOCORLE, []byte("6"), []byte("0T3"), []byte("123"))
}
