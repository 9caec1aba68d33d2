package wire_test

import (
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }
