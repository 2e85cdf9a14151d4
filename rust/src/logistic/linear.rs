//! Small dense symmetric systems.

/// Solves A·x = b for a positive definite A [n, n] (row-major, lower triangle read) by Cholesky; None if it is not.
pub fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for column in 0..n {
        for row in column..n {
            let dot: f64 = (0..column).map(|k| a[row * n + k] * a[column * n + k]).sum();
            let value = a[row * n + column] - dot;
            if row > column {
                a[row * n + column] = value / a[column * n + column];
            } else if value > 0.0 && value.is_finite() {
                a[column * n + column] = value.sqrt();
            } else {
                return None;
            }
        }
    }
    for row in 0..n {
        let dot: f64 = (0..row).map(|k| a[row * n + k] * b[k]).sum();
        b[row] = (b[row] - dot) / a[row * n + row];
    }
    for row in (0..n).rev() {
        let dot: f64 = (row + 1..n).map(|k| a[k * n + row] * b[k]).sum();
        b[row] = (b[row] - dot) / a[row * n + row];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::solve;

    #[test]
    fn solves_a_positive_definite_system() {
        let x = solve(vec![4.0, 0.0, 2.0, 3.0], vec![2.0, -1.0]).unwrap();
        assert!((4.0 * x[0] + 2.0 * x[1] - 2.0).abs() < 1e-12 && (2.0 * x[0] + 3.0 * x[1] + 1.0).abs() < 1e-12);
    }

    #[test]
    fn refuses_an_indefinite_one() {
        assert!(solve(vec![1.0, 0.0, 2.0, 1.0], vec![0.0, 0.0]).is_none());
    }
}
